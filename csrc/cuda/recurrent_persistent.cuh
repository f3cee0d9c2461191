// What the persistent recurrent kernels stand on: the work of a block, and launches.
//
// One launch runs all steps. A block owns some hidden units of a head and keeps the rows of W_hh (forward) or W_hh^T (backward)
// that these need (recurrent_weights.cuh). A step of a block is
//
//   read the exchanged row of each sequence (recurrent_exchange.cuh) -> multiply -> sum over the warps
//   -> a thread a unit and sequence: apply the cell, hand the result on to the other blocks.
#pragma once

#include "cuda/recurrent.cuh"
#include "cuda/recurrent_exchange.cuh"
#include "cuda/recurrent_plan.h"
#include "cuda/recurrent_weights.cuh"
#include "params/recurrent_persistent.h"

namespace seqkern::cuda {

// --- the work of a block, and of a thread ---

// Sequences that are taken at once, at most: a thread for each of them and unit.
template <int kUnits>
constexpr int kColumnTiles = kUnits > 16 ? 1 : 2;

template <int kUnits>
struct Place {
  int64_t head, first_unit;
  int64_t first, end;  // sequences of the group

  SEQKERN_DEVICE Place(const RecurrentStepParams& p, const RecurrentTiling& tiling) {
    const int64_t group = block_index_y() % tiling.groups;
    head = block_index_y() / tiling.groups;
    first_unit = block_index() * kUnits;
    first = group * tiling.per_group < p.batch ? group * tiling.per_group : p.batch;
    end = first + tiling.per_group < p.batch ? first + tiling.per_group : p.batch;
  }

  // Calls body(chunk, row, j) for the group's chunks; row and j are this thread's sequence and unit, j < 0 if it has none.
  template <class Body>
  SEQKERN_DEVICE void for_each_chunk(const RecurrentStepParams& p, const RecurrentTiling& tiling, const Body& body) const {
    for (int64_t n = first; n < end; n += tiling.chunk) {
      const int64_t sequence = n + thread_index() / kUnits, j = first_unit + thread_index() % kUnits;
      const bool any = thread_index() / kUnits < tiling.chunk && sequence < end && j < p.hidden_size;
      const int64_t of_row = any ? sequence : first;
      const Row row{of_row * p.heads + head, head * p.batch + of_row, of_row, head};
      body(Chunk{n, end, static_cast<int>(tiling.chunk) / kTileColumns}, row, any ? j : -1);
    }
  }
};

// Words of weights that a thread's other registers leave room for.
template <class Cell, class T>
constexpr int kFixedWords = (sizeof(T) == 4                                         ? 16
                             : Cell::kParameters > 0 || Cell::kSlots > Cell::kGates ? 48
                                                                                    : 64) /
                            (kGated<Cell> ? 4 : 1);

// Of a block's units, for so many gates. Many rows are shared out among the warps besides.
template <int kUnits>
constexpr int kRowGroups = kUnits > 16 ? kUnits / 16 : 1;
template <class T, int kUnits, int kGates, int kFixedWords>
using WeightsOf = Weights<T, (kGates * kUnits / kRowGroups<kUnits> + kTileRows - 1) / kTileRows, kRowGroups<kUnits>,
                          kColumnTiles<kUnits>, kFixedWords>;

// In the place of what a cell without a gated candidate does not need.
struct Nothing {
  template <class... Arguments>
  SEQKERN_DEVICE explicit Nothing(const Arguments&...) {}
  static constexpr int64_t shared_bytes(int64_t) { return 0; }
};

// What a block of a persistent kernel has: its weights, and its side of the exchanges. CandidateWeights: Nothing, unless the
// candidate is gated.
template <class T, int kUnits, template <class> class ExchangeOf, class Weights, class CandidateWeights>
struct PersistentBlock {
  static constexpr bool kGated = !std::is_same_v<CandidateWeights, Nothing>;
  using Exchange = ExchangeOf<T>;
  using GatedExchange = std::conditional_t<kGated, Exchange, Nothing>;

  // Where the parts of its shared memory begin, and its size; rows: elements of the exchanges' rows.
  struct Shared {
    int64_t candidate_weights, partials, exchange, gated_exchange, bytes;
  };
  static SEQKERN_HD Shared shared(const RecurrentTiling& tiling, int64_t row, int64_t gated_row) {
    Shared at{};
    at.candidate_weights = Weights::shared_bytes(row);
    at.partials = at.candidate_weights + CandidateWeights::shared_bytes(gated_row);
    at.exchange = at.partials + Partials::bytes(Weights::kDepthParts * Weights::kRows, tiling.chunk);
    at.gated_exchange = at.exchange + Exchange::shared_bytes(row, tiling.per_group);
    at.bytes = at.gated_exchange + (kGated ? Exchange::shared_bytes(gated_row, tiling.per_group) : 0);
    return at;
  }

  const RecurrentTiling& tiling;
  const Place<kUnits> place;
  const Shared at;
  const Weights weights;
  const CandidateWeights candidate_weights;
  const Partials partials;
  const Exchange exchange;
  const GatedExchange gated_exchange;

  // element(place, row, k) and candidate_element(place, row, k) of the weights.
  template <class Params, class Element, class CandidateElement>
  SEQKERN_DEVICE PersistentBlock(const Params& p, int64_t row, int64_t gated_row, const Element& element,
                                 const CandidateElement& candidate_element)
      : tiling(p.tiling),
        place(p, p.tiling),
        at(shared(p.tiling, row, gated_row)),
        weights(row, dynamic_shared(), [&](int64_t r, int64_t k) { return element(place, r, k); }),
        candidate_weights(gated_row, dynamic_shared() + at.candidate_weights,
                          [&](int64_t r, int64_t k) { return candidate_element(place, r, k); }),
        partials(dynamic_shared() + at.partials, p.tiling.chunk),
        exchange(p.exchange, p.hidden_size, place.head, place.first, place.end, dynamic_shared() + at.exchange),
        gated_exchange(p.gated_exchange, p.hidden_size, place.head, place.first, place.end,
                       dynamic_shared() + at.gated_exchange) {
    exchange.enter();
    if constexpr (kGated) gated_exchange.enter();
  }

  // Called by all threads: multiplies an entry's rows; then product(row) is that of a row of weights and the thread's sequence.
  SEQKERN_DEVICE void multiply(int64_t entry, const Chunk& chunk) const { multiply(weights, exchange, entry, chunk); }
  SEQKERN_DEVICE void multiply_candidate(int64_t entry, const Chunk& chunk) const {
    multiply(candidate_weights, gated_exchange, entry, chunk);
  }
  // The product of row r of a gate (or of what a unit gave), for the thread's unit and sequence.
  SEQKERN_DEVICE float product(int gate = 0) const { return partials.take<Weights>(gate * kUnits + unit(), sequence()); }
  SEQKERN_DEVICE float candidate_product() const { return partials.take<CandidateWeights>(unit(), sequence()); }

  // Called by all threads, once the block has handed on all that is its own of an entry.
  SEQKERN_DEVICE void pass(int64_t entry) const { exchange.pass(entry, place.first_unit, kUnits); }
  SEQKERN_DEVICE void pass_gated(int64_t entry) const { gated_exchange.pass(entry, place.first_unit, kUnits); }

 private:
  static SEQKERN_DEVICE int unit() { return static_cast<int>(thread_index() % kUnits); }
  static SEQKERN_DEVICE int sequence() { return static_cast<int>(thread_index() / kUnits); }

  template <class W, class From>
  SEQKERN_DEVICE void multiply(const W& by, const From& from, int64_t entry, const Chunk& chunk) const {
    typename W::Sums sums{};
    by.multiply(sums, chunk.column_tiles, tiling.exact,
                [&](int slab, int count, auto& x) SEQKERN_INLINE { from.read(entry, chunk, slab, count, x); });
    partials.put<W>(sums);
  }
};

// --- launches ---

template <class Params>
cudaError_t launch_persistent(void (*kernel)(Params), int64_t shared_bytes, const RecurrentPlan& plan, const Params& p,
                              cudaStream_t stream, bool* fits) {
  const int64_t blocks = blocks_of(plan, p.hidden_size);
  Launch how{{blocks, p.heads * plan.groups}, kPersistentThreads, stream, static_cast<size_t>(shared_bytes)};
  how.cooperative = plan.kernel == RecurrentKernel::grid;
  how.cluster = plan.kernel == RecurrentKernel::cluster ? static_cast<int>(blocks) : 1;
  if (!fits) return launch(kernel, how, p);
  constexpr int kMaxCluster = 16;
  *fits = false;
  if (how.cluster > kMaxCluster) return cudaSuccess;
  int64_t resident = 0;
  const cudaError_t error = resident_blocks(kernel, how, resident);
  *fits = resident >= (how.cooperative ? how.grid.x * how.grid.y : blocks);
  return error;
}

// Launcher<Cell, T, units, Exchange>::launch with those of the cell and plan.
template <class T, template <class, class, int, template <class> class> class Launcher, class Params>
cudaError_t launch_by_plan(int cell, const RecurrentPlan& plan, const Params& p, cudaStream_t stream, bool* fits) {
  return for_cell(cell, [&](auto tag) {
    using Cell = decltype(tag);
    const bool grid = plan.kernel == RecurrentKernel::grid;
    if (grid && plan.units == 8) return Launcher<Cell, T, 8, GridExchange>::launch(plan, p, stream, fits);
    if (grid && plan.units == 16) return Launcher<Cell, T, 16, GridExchange>::launch(plan, p, stream, fits);
    if (!grid && plan.units == 16) return Launcher<Cell, T, 16, ClusterExchange>::launch(plan, p, stream, fits);
    if (!grid && plan.units == 32) return Launcher<Cell, T, 32, ClusterExchange>::launch(plan, p, stream, fits);
    return cudaErrorInvalidValue;
  });
}

}  // namespace seqkern::cuda
