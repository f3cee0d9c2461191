// All steps of a recurrence in one launch, backward.
#pragma once

#include "cuda/recurrent.h"
#include "cuda/recurrent_backward.cuh"
#include "cuda/recurrent_persistent.cuh"

namespace seqkern::cuda {

// Row r of a block's weights is what unit r gave: a column of W_hh, over the units of the gates side by side.
template <class Cell, class T, int kUnits>
using BackwardWeights = WeightsOf<T, kUnits, 1, kFixedWords<Cell, T>>;
template <class Cell, class T, int kUnits, template <class> class Exchange>
using BackwardBlock = PersistentBlock<T, kUnits, Exchange, BackwardWeights<Cell, T, kUnits>,
                                      std::conditional_t<kGated<Cell>, BackwardWeights<Cell, T, kUnits>, Nothing>>;

template <class Cell>
constexpr int kExchangedGates = kGated<Cell> ? Cell::kGates - 1 : Cell::kGates;

template <class Cell, class T, int kUnits, template <class> class Exchange>
SEQKERN_KERNEL(kPersistentThreads, 1)
persistent_backward(SEQKERN_CONSTANT RecurrentPersistentBackwardParams<T> p) {
  if (Exchange<T>::kOfCluster && !kHasClusters) return;
  using S = Sum<T>;
  using B = Backward<Cell, T>;
  constexpr int kGates = kExchangedGates<Cell>, G = Cell::kGates;
  const int64_t H = p.hidden_size, row_size = p.exchange.row_size;
  const auto weight = [&](const Place<kUnits>& place, int64_t first_gate, int64_t unit, int64_t k) {
    const int64_t gate = k / row_size, from = k - gate * row_size, j = place.first_unit + unit;
    return unit < kUnits && j < H && from < H ? p.weight_hh[((place.head * G + first_gate + gate) * H + from) * H + j] : T{};
  };
  const BackwardBlock<Cell, T, kUnits, Exchange> block(
      p, kGates * row_size, row_size, [&](const auto& place, int64_t r, int64_t k) { return weight(place, 0, r, k); },
      [&](const auto& place, int64_t r, int64_t k) { return weight(place, G - 1, r, k); });

  for (int64_t turn = 0; turn < p.tiling.turns; ++turn) {
    const int64_t step = p.step - turn, shift = p.reverse ? turn : -turn;
    // The gradients of the gates, once dh is there.
    const auto leave = [&](const B& b, int64_t j, typename B::Unit& unit, S d_gated) {
      if (b.taken) {
        b.template differentiate<false>(j, unit, d_gated, NormGradient<S>{});
        b.template leave_hidden_parts<false>(j, unit);
      } else {
        b.skip(j);
      }
      for (int g = 0; g < kGates; ++g)
        block.exchange.hand_on(turn + 1, b.row.sequence, g, j, b.taken ? B::of_hidden_part(unit, g) : S(0));
    };
    block.place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
      const B b(p, row, step, shift);
      const Arrival<T> arrival(p, row, step, shift);
      typename B::Unit unit{};
      if (j >= 0 && b.taken) unit = b.load(j);
      if (turn > 0) block.multiply(turn, chunk);
      if (j < 0) return;
      B::arrive(unit, turn > 0 ? arrival(j, block.product()) : arrival(j));
      if constexpr (kGated<Cell>) {
        S d = 0;
        if (b.taken) d = b.candidate(unit);
        p.d_cell_h[b.unit(j)] = unit.dh + unit.d_direct;
        block.gated_exchange.hand_on(turn + 1, row.sequence, 0, j, d);
      } else {
        leave(b, j, unit, 0);
      }
    });
    if constexpr (kGated<Cell>) {
      block.pass_gated(turn + 1);
      block.place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
        const B b(p, row, step, shift);
        typename B::Unit unit{};
        if (j >= 0 && b.taken) unit = b.load(j, p.d_cell_h[b.unit(j)]);
        block.multiply_candidate(turn + 1, chunk);
        if (j >= 0) leave(b, j, unit, block.candidate_product());
      });
    }
    block.pass(turn + 1);
  }
}

template <class Cell, class T, int kUnits, template <class> class Exchange>
struct PersistentBackwardLauncher {
  static cudaError_t launch(const RecurrentPlan& plan, const RecurrentPersistentBackwardParams<T>& p, cudaStream_t stream,
                            bool* fits) {
    const int64_t row = p.exchange.row_size;
    return launch_persistent(persistent_backward<Cell, T, kUnits, Exchange>,
                             BackwardBlock<Cell, T, kUnits, Exchange>::shared(p.tiling, kExchangedGates<Cell> * row, row).bytes,
                             plan, p, stream, fits);
  }
};

#define SEQKERN_INSTANTIATE_PERSISTENT(T)                                                                                     \
  template <>                                                                                                                 \
  cudaError_t launch_recurrent_persistent(int cell, const RecurrentPlan& plan, const RecurrentPersistentBackwardParams<T>& p, \
                                          cudaStream_t stream, bool* fits) {                                                  \
    return launch_by_plan<T, PersistentBackwardLauncher>(cell, plan, p, stream, fits);                                        \
  }

}  // namespace seqkern::cuda
