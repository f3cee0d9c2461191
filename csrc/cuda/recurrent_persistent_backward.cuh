// All steps of a recurrence in one launch, backward.
#pragma once

#include "cuda/recurrent.h"
#include "cuda/recurrent_backward.cuh"
#include "cuda/recurrent_persistent.cuh"

namespace seqkern::cuda {

template <class Cell, class T, int kUnits, template <class> class Exchange>
struct PersistentBackward {
  static constexpr int kHiddenGates = kGated<Cell> ? Cell::kGates - 1 : Cell::kGates;
  using OwnWeights = WeightsOf<Cell, T, kUnits, 1>;

  static PersistentShared SEQKERN_HD shared(const RecurrentPersistentBackwardParams<T>& p) {
    const int64_t row = p.exchange.row_size, size = kHiddenGates * row;
    return {OwnWeights::shared_bytes(size), kGated<Cell> ? OwnWeights::shared_bytes(row) : 0,
            Partials::bytes(OwnWeights::kDepthParts * OwnWeights::kRows, p.tiling.chunk),
            Exchange<T>::shared_bytes(size, p.tiling.per_group),
            kGated<Cell> ? Exchange<T>::shared_bytes(row, p.tiling.per_group) : 0};
  }
};

template <class Cell, class T, int kUnits, template <class> class Exchange>
SEQKERN_KERNEL(kPersistentThreads, 1)
persistent_backward(SEQKERN_CONSTANT RecurrentPersistentBackwardParams<T> p) {
  using S = Sum<T>;
  using Kernel = PersistentBackward<Cell, T, kUnits, Exchange>;
  using B = Backward<Cell, T>;
  constexpr int kHiddenGates = Kernel::kHiddenGates, G = Cell::kGates;
  const Place<kUnits> place(p, p.tiling);
  const PersistentShared sizes = Kernel::shared(p);
  unsigned char* shared = dynamic_shared();
  const auto take_shared = [&](int64_t bytes) {
    unsigned char* const taken = shared;
    shared += bytes;
    return taken;
  };

  // Row r of the weights is what unit r gave: column j of W_hh, over the units of the gates side by side.
  const int64_t H = p.hidden_size, row_size = p.exchange.row_size;
  const auto weight_from = [&](int first_gate) {
    return [=, &p, &place](int64_t row, int64_t k) {
      const int64_t part = k / row_size, from = k - part * row_size, j = place.first_unit + row;
      return row < kUnits && j < H && from < H ? p.weight_hh[((place.head * G + first_gate + part) * H + from) * H + j] : T{};
    };
  };
  const typename Kernel::OwnWeights weights(kHiddenGates * row_size, take_shared(sizes.weights), weight_from(0));
  using Candidate = std::conditional_t<kGated<Cell>, typename Kernel::OwnWeights, Nothing>;
  [[maybe_unused]] const Candidate candidate_weights(row_size, take_shared(sizes.gated_weights), weight_from(G - 1));
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
    const int64_t step = p.step - turn, shift = p.reverse ? turn : -turn;
    // The gradients of the gates, once dh is there.
    const auto leave = [&](const B& b, int64_t j, typename B::Unit& unit, S d_gated) {
      if (b.taken) {
        b.template differentiate<false>(j, unit, d_gated, NormGradient<S>{});
        b.template leave_hidden_parts<false>(j, unit);
      } else {
        b.skip(j);
      }
      for (int g = 0; g < kHiddenGates; ++g)
        exchange.hand_on(turn + 1, b.row.sequence, g, j, b.taken ? B::of_hidden_part(unit, g) : S(0));
    };
    place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
      const B b(p, row, step, shift);
      const Arrival<T> arrival(p, row, step, shift);
      typename B::Unit unit{};
      if (j >= 0 && b.taken) unit = b.load(j);
      if (turn > 0) multiply(weights, exchange, turn, chunk);
      if (j < 0) return;
      B::arrive(unit, turn > 0 ? arrival(j, partials.take<typename Kernel::OwnWeights>(row_of_thread, column)) : arrival(j));
      if constexpr (kGated<Cell>) {
        S d = 0;
        if (b.taken) d = b.candidate(unit);
        p.d_cell_h[b.unit(j)] = unit.dh + unit.d_direct;
        gated_exchange.hand_on(turn + 1, row.sequence, 0, j, d);
      } else {
        leave(b, j, unit, 0);
      }
    });
    if constexpr (kGated<Cell>) {
      gated_exchange.pass(turn + 1, place.first_unit, kUnits);
      place.for_each_chunk(p, p.tiling, [&](const Chunk& chunk, const Row& row, int64_t j) {
        const B b(p, row, step, shift);
        typename B::Unit unit{};
        if (j >= 0 && b.taken) unit = b.load(j, p.d_cell_h[b.unit(j)]);
        multiply(candidate_weights, gated_exchange, turn + 1, chunk);
        if (j >= 0) leave(b, j, unit, partials.take<typename Kernel::OwnWeights>(row_of_thread, column));
      });
    }
    exchange.pass(turn + 1, place.first_unit, kUnits);
  }
}

template <class Cell, class T, int kUnits, template <class> class Exchange>
struct PersistentBackwardLauncher {
  static cudaError_t launch(const RecurrentPlan& plan, const RecurrentPersistentBackwardParams<T>& p, cudaStream_t stream,
                            bool* fits) {
    return launch_persistent(persistent_backward<Cell, T, kUnits, Exchange>,
                             PersistentBackward<Cell, T, kUnits, Exchange>::shared(p), plan, p, stream, fits);
  }
};

#define SEQKERN_INSTANTIATE_PERSISTENT(T)                                                                                     \
  template <>                                                                                                                 \
  cudaError_t launch_recurrent_persistent(int cell, const RecurrentPlan& plan, const RecurrentPersistentBackwardParams<T>& p, \
                                          cudaStream_t stream, bool* fits) {                                                  \
    return launch_by_plan<T, PersistentBackwardLauncher>(cell, plan, p, stream, fits);                                        \
  }

}  // namespace seqkern::cuda
