// All steps of a recurrence in one launch, forward.
#pragma once

#include "cuda/recurrent.h"
#include "cuda/recurrent_forward.cuh"
#include "cuda/recurrent_persistent.cuh"

namespace seqkern::cuda {

template <class Cell, class T, int kUnits, template <class> class Exchange>
struct PersistentForward {
  using F = Forward<Cell, T>;
  static constexpr int kHiddenGates = F::kHiddenGates;
  using HiddenWeights = WeightsOf<Cell, T, kUnits, kHiddenGates>;
  using CandidateWeights = WeightsOf<Cell, T, kUnits, 1>;

  static PersistentShared SEQKERN_HD shared(const RecurrentPersistentForwardParams<T>& p) {
    const int64_t size = p.exchange.row_size;
    return {HiddenWeights::shared_bytes(size), kGated<Cell> ? CandidateWeights::shared_bytes(size) : 0,
            Partials::bytes(HiddenWeights::kDepthParts * HiddenWeights::kRows, p.tiling.chunk),
            Exchange<T>::shared_bytes(size, p.tiling.per_group),
            kGated<Cell> ? Exchange<T>::shared_bytes(size, p.tiling.per_group) : 0};
  }
};

template <class Cell, class T, int kUnits, template <class> class Exchange>
SEQKERN_KERNEL(kPersistentThreads, 1)
persistent_forward(SEQKERN_CONSTANT RecurrentPersistentForwardParams<T> p) {
  using Kernel = PersistentForward<Cell, T, kUnits, Exchange>;
  using F = Forward<Cell, T>;
  constexpr int kHiddenGates = F::kHiddenGates, G = Cell::kGates;
  const Place<kUnits> place(p, p.tiling);
  const PersistentShared sizes = Kernel::shared(p);
  unsigned char* shared = dynamic_shared();
  const auto take_shared = [&](int64_t bytes) {
    unsigned char* const taken = shared;
    shared += bytes;
    return taken;
  };

  // Row r of the weights is unit r % kUnits of gate r / kUnits.
  const int64_t H = p.hidden_size;
  const auto weight_from = [&](int first_gate, int gates) {
    return [=, &p, &place](int64_t row, int64_t k) {
      const int64_t gate = first_gate + row / kUnits, j = place.first_unit + row % kUnits;
      return row < gates * kUnits && j < H && k < H ? p.weight_hh[((place.head * G + gate) * H + j) * H + k] : T{};
    };
  };
  const typename Kernel::HiddenWeights weights(p.exchange.row_size, take_shared(sizes.weights), weight_from(0, kHiddenGates));
  using Candidate = std::conditional_t<kGated<Cell>, typename Kernel::CandidateWeights, Nothing>;
  [[maybe_unused]] const Candidate candidate_weights(p.exchange.row_size, take_shared(sizes.gated_weights),
                                                     weight_from(G - 1, 1));
  const Partials partials(take_shared(sizes.partials), p.tiling.chunk);
  const Exchange<T> exchange(p.exchange, H, place.head, place.first, place.end, take_shared(sizes.exchange));
  using Gated = std::conditional_t<kGated<Cell>, Exchange<T>, Nothing>;
  [[maybe_unused]] const Gated gated_exchange(p.gated_exchange, H, place.head, place.first, place.end,
                                              take_shared(sizes.gated_exchange));
  exchange.enter();
  if constexpr (kGated<Cell>) gated_exchange.enter();

  const int row_of_thread = static_cast<int>(thread_index() % kUnits), column = static_cast<int>(thread_index() / kUnits);
  const auto multiply = [&](const auto& by, const auto& from, int64_t entry, const Chunk& chunk) SEQKERN_INLINE {
    using W = std::decay_t<decltype(by)>;
    typename W::Sums sums{};
    by.multiply(sums, chunk.column_tiles, p.tiling.exact,
                [&](int slab, int count, auto& x) SEQKERN_INLINE { from.read(entry, chunk, slab, count, x); });
    partials.put<W>(sums);
  };

  for (int64_t turn = 0; turn < p.tiling.turns; ++turn) {
    const int64_t step = p.step + turn, shift = p.reverse ? -turn : turn;
    place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
      const F f(p, row, step, shift);
      const bool active = j >= 0 && f.taken;
      typename F::Unit unit{};
      if (active) unit = f.load(j);
      multiply(weights, exchange, turn, chunk);
      if (active)
        for (int g = 0; g < kHiddenGates; ++g) {
          const float hidden = partials.take<typename Kernel::HiddenWeights>(g * kUnits + row_of_thread, column);
          F::add_hidden(unit, g, hidden);
          if constexpr (kGated<Cell>) p.gates_h[(row.by_head * kHiddenGates + g) * H + j] = hidden;
        }
      if constexpr (kGated<Cell>) {
        if (j >= 0) gated_exchange.hand_on(turn + 1, row.sequence, 0, j, active ? f.gated(j, unit) : Sum<T>(0));
      } else {
        if (j >= 0) exchange.hand_on(turn + 1, row.sequence, 0, j, active ? f.finish(j, unit) : f.skip(j));
      }
    });
    if constexpr (kGated<Cell>) {
      gated_exchange.pass(turn + 1, place.first_unit, kUnits);
      place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
        const F f(p, row, step, shift);
        const bool active = j >= 0 && f.taken;
        typename F::Unit unit{};
        if (active) {
          unit = f.load(j);
          for (int g = 0; g < kHiddenGates; ++g) F::add_hidden(unit, g, f.gates_h(g, j));
        }
        multiply(candidate_weights, gated_exchange, turn + 1, chunk);
        if (active) F::add_hidden(unit, G - 1, partials.take<typename Kernel::CandidateWeights>(row_of_thread, column));
        if (j >= 0) exchange.hand_on(turn + 1, row.sequence, 0, j, active ? f.finish(j, unit) : f.skip(j));
      });
    }
    exchange.pass(turn + 1, place.first_unit, kUnits);
  }
}

template <class Cell, class T, int kUnits, template <class> class Exchange>
struct PersistentForwardLauncher {
  static cudaError_t launch(const RecurrentPlan& plan, const RecurrentPersistentForwardParams<T>& p, cudaStream_t stream,
                            bool* fits) {
    return launch_persistent(persistent_forward<Cell, T, kUnits, Exchange>,
                             PersistentForward<Cell, T, kUnits, Exchange>::shared(p), plan, p, stream, fits);
  }
};

#define SEQKERN_INSTANTIATE_PERSISTENT(T)                                                                                    \
  template <>                                                                                                                \
  cudaError_t launch_recurrent_persistent(int cell, const RecurrentPlan& plan, const RecurrentPersistentForwardParams<T>& p, \
                                          cudaStream_t stream, bool* fits) {                                                 \
    return launch_by_plan<T, PersistentForwardLauncher>(cell, plan, p, stream, fits);                                        \
  }

}  // namespace seqkern::cuda
