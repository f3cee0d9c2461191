// All steps of a recurrence in one launch, forward.
#pragma once

#include "cuda/recurrent.h"
#include "cuda/recurrent_forward.cuh"
#include "cuda/recurrent_persistent.cuh"

namespace seqkern::cuda {

// Row r of a block's weights is unit r % kUnits of gate r / kUnits.
template <class Cell, class T, int kUnits, template <class> class Exchange>
using ForwardBlock =
    PersistentBlock<T, kUnits, Exchange, WeightsOf<T, kUnits, Forward<Cell, T>::kHiddenGates, kFixedWords<Cell, T>>,
                    std::conditional_t<kGated<Cell>, WeightsOf<T, kUnits, 1, kFixedWords<Cell, T>>, Nothing>>;

template <class Cell, class T, int kUnits, template <class> class Exchange>
SEQKERN_KERNEL(kPersistentThreads, 1)
persistent_forward(SEQKERN_CONSTANT RecurrentPersistentForwardParams<T> p) {
  if (Exchange<T>::kOfCluster && !kHasClusters) return;
  using F = Forward<Cell, T>;
  constexpr int kHiddenGates = F::kHiddenGates, G = Cell::kGates;
  const int64_t H = p.hidden_size, size = p.exchange.row_size;
  const auto weight = [&](const Place<kUnits>& place, int64_t gate, int64_t unit, int64_t k) {
    const int64_t j = place.first_unit + unit;
    return j < H && k < H ? p.weight_hh[((place.head * G + gate) * H + j) * H + k] : T{};
  };
  const ForwardBlock<Cell, T, kUnits, Exchange> block(
      p, size, size,
      [&](const auto& place, int64_t r, int64_t k) {
        return r < kHiddenGates * kUnits ? weight(place, r / kUnits, r % kUnits, k) : T{};
      },
      [&](const auto& place, int64_t r, int64_t k) { return r < kUnits ? weight(place, G - 1, r, k) : T{}; });

  for (int64_t turn = 0; turn < p.tiling.turns; ++turn) {
    const int64_t step = p.step + turn, shift = p.reverse ? -turn : turn;
    const auto leave = [&](const F& f, int64_t j, typename F::Unit& unit) {
      block.exchange.hand_on(turn + 1, f.row.sequence, 0, j, f.taken ? f.finish(j, unit) : f.skip(j));
    };
    block.place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
      const F f(p, row, step, shift);
      typename F::Unit unit{};
      if (j >= 0 && f.taken) unit = f.load(j);
      block.multiply(turn, chunk);
      if (j < 0) return;
      for (int g = 0; g < kHiddenGates; ++g) {
        const float hidden = block.product(g);
        F::add_hidden(unit, g, hidden);
        if constexpr (kGated<Cell>) p.gates_h[(row.by_head * kHiddenGates + g) * H + j] = hidden;
      }
      if constexpr (kGated<Cell>)
        block.gated_exchange.hand_on(turn + 1, row.sequence, 0, j, f.taken ? f.gated(j, unit) : Sum<T>(0));
      else
        leave(f, j, unit);
    });
    if constexpr (kGated<Cell>) {
      block.pass_gated(turn + 1);
      block.place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
        const F f(p, row, step, shift);
        typename F::Unit unit{};
        if (j >= 0 && f.taken) {
          unit = f.load(j);
          for (int g = 0; g < kHiddenGates; ++g) F::add_hidden(unit, g, f.gates_h(g, j));
        }
        block.multiply_candidate(turn + 1, chunk);
        if (j < 0) return;
        F::add_hidden(unit, G - 1, block.candidate_product());
        leave(f, j, unit);
      });
    }
    block.pass(turn + 1);
  }
}

template <class Cell, class T, int kUnits, template <class> class Exchange>
struct PersistentForwardLauncher {
  static cudaError_t launch(const RecurrentPlan& plan, const RecurrentPersistentForwardParams<T>& p, cudaStream_t stream,
                            bool* fits) {
    const int64_t size = p.exchange.row_size;
    return launch_persistent(persistent_forward<Cell, T, kUnits, Exchange>,
                             ForwardBlock<Cell, T, kUnits, Exchange>::shared(p.tiling, size, size).bytes, plan, p, stream, fits);
  }
};

#define SEQKERN_INSTANTIATE_PERSISTENT(T)                                                                                    \
  template <>                                                                                                                \
  cudaError_t launch_recurrent_persistent(int cell, const RecurrentPlan& plan, const RecurrentPersistentForwardParams<T>& p, \
                                          cudaStream_t stream, bool* fits) {                                                 \
    return launch_by_plan<T, PersistentForwardLauncher>(cell, plan, p, stream, fits);                                        \
  }

}  // namespace seqkern::cuda
