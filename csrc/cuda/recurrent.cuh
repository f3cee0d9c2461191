// What the recurrent kernels share: the state that enters a step, rows of units, layer norms of a row, and launches.
//
// Each hidden unit of each sequence is one thread's: it reads the unit's gates, applies the cell, and writes what the step
// yields (recurrent_forward.cuh, recurrent_backward.cuh). A launch is one step (recurrent_*.cu), whose products with the weights
// are the caller's, or many (recurrent_persistent.cuh), with products of its own. Where layer norms need sums over a row of
// units, a block takes whole rows, and a unit stays with one thread in all passes over the row.
#pragma once

#include <cmath>

#include "cuda/reduce.cuh"
#include "math/cells.h"
#include "params/recurrent_step.h"

namespace seqkern::cuda {

constexpr int kThreads = 128, kThreadsOfRow = 256;

// Cells with a gated candidate have no layer norms.
template <class Cell>
constexpr bool kGated = Cell::kCandidate == math::Candidate::gated;

template <class T>
SEQKERN_DEVICE Sum<T> value_or_zero(const T* p, int64_t i) {
  return p ? to_sum(p[i]) : Sum<T>(0);
}

// --- steps ---

enum class Entry { previous, initial, zero };  // the state that a step begins with

SEQKERN_DEVICE int64_t row_of(const RecurrentStepParams& p, int64_t step) { return p.reverse ? p.steps - 1 - step : step; }

SEQKERN_DEVICE bool taken(const RecurrentStepParams& p, int64_t step, int64_t sequence) {
  return !p.lengths || row_of(p, step) < p.lengths[sequence];
}

// A step that is not taken hands on the state that it was given.
SEQKERN_DEVICE Entry entry(const RecurrentStepParams& p, int64_t step, int64_t sequence) {
  const int64_t row = row_of(p, step);
  if (!taken(p, step, sequence)) return step == 0 ? Entry::initial : Entry::previous;
  if (p.resets && p.resets[row * p.batch + sequence]) return p.reset_to_initial ? Entry::initial : Entry::zero;
  const bool first = step == 0 || (p.reverse && p.lengths && row == p.lengths[sequence] - 1);
  return first ? Entry::initial : Entry::previous;
}

// Element `at` of the entering state.
template <class P, class T>
SEQKERN_DEVICE Sum<T> entering(Entry from, const P* previous, const T* initial, int64_t at) {
  if (from == Entry::previous) return to_sum(previous[at]);
  return from == Entry::initial ? value_or_zero(initial, at) : Sum<T>(0);
}

// --- rows: the units of one head of one sequence; threads lie along a row, rows along the grid's y ---

struct Row {
  int64_t index;     // in arrays [N, K, ...]
  int64_t by_head;   // in arrays [K, N, ...]
  int64_t sequence;  // n
  int64_t head;      // k
};

SEQKERN_DEVICE Row row_at(const RecurrentStepParams& p, int64_t index) {
  const int64_t n = p.heads == 1 ? index : index / p.heads, k = index - n * p.heads;
  return {index, k * p.batch + n, n, k};
}

// Calls body(row) for the rows of this block.
template <class Body>
SEQKERN_DEVICE void for_each_row(const RecurrentStepParams& p, int64_t rows, const Body& body) {
  for (int64_t index = block_index_y(); index < rows; index += block_count_y()) body(row_at(p, index));
}

// Calls body(j) for this thread's elements of a row.
template <class Body>
SEQKERN_DEVICE void for_each_unit(int64_t size, const Body& body) {
  for (int64_t j = block_index() * block_size() + thread_index(); j < size; j += block_count() * block_size()) body(j);
}

// What forward and backward know of a row of units at a step. Arrays of several steps are given at the row of p.step; others are
// `shift` rows from there.
template <class Cell, class T>
struct CellRow {
  using S = Sum<T>;
  static constexpr int G = Cell::kGates, kSlots = Cell::kSlots;

  Row row;
  int64_t heads, hidden_size, step;
  int64_t row_at_step;  // row.index, in arrays of several steps
  Entry from;           // the state that the step begins with
  bool taken;

  SEQKERN_DEVICE CellRow(const RecurrentStepParams& p, const Row& row, int64_t step, int64_t shift)
      : row(row),
        heads(p.heads),
        hidden_size(p.hidden_size),
        step(step),
        row_at_step(row.index + shift * p.batch * p.heads),
        from(entry(p, step, row.sequence)),
        taken(cuda::taken(p, step, row.sequence)) {}

  // Places in arrays [N, K, H], of several steps [.., N, K, H] and [.., N, K, G, H], [K, H] and [K, G, H].
  SEQKERN_DEVICE int64_t unit(int64_t j) const { return row.index * hidden_size + j; }
  SEQKERN_DEVICE int64_t unit_at_step(int64_t j) const { return row_at_step * hidden_size + j; }
  SEQKERN_DEVICE int64_t gate_at_step(int g, int64_t j) const { return (row_at_step * G + g) * hidden_size + j; }
  SEQKERN_DEVICE int64_t column(int64_t j) const { return row.head * hidden_size + j; }
  SEQKERN_DEVICE int64_t column_of_gate(int g, int64_t j) const { return (row.head * G + g) * hidden_size + j; }

  struct Parameters {
    S w[Cell::kParameters > 0 ? Cell::kParameters : 1];
  };
  SEQKERN_DEVICE Parameters parameters([[maybe_unused]] const T* weight_cell, [[maybe_unused]] int64_t j) const {
    Parameters found{};
    for (int i = 0; i < Cell::kParameters; ++i) found.w[i] = to_sum(weight_cell[i * heads * hidden_size + column(j)]);
    return found;
  }

  // Slots as they are kept.
  SEQKERN_DEVICE void load_slots(const S* input, const S* hidden, int64_t j, S (&s)[kSlots]) const {
    for (int i = 0; i < G; ++i) s[i] = input[gate_at_step(math::gate_of_input_slot<Cell>(i), j)];
    if constexpr (kSlots > G) s[G] = hidden[unit_at_step(j)];
  }
  SEQKERN_DEVICE void store_slots(S* input, S* hidden, int64_t j, const S (&s)[kSlots]) const {
    for (int i = 0; i < G; ++i) input[gate_at_step(math::gate_of_input_slot<Cell>(i), j)] = s[i];
    if constexpr (kSlots > G) hidden[unit_at_step(j)] = s[G];
  }
};

// --- layer norms of rows, by one block each (a grid of x = 1) ---

struct Add {
  template <class V>
  SEQKERN_DEVICE V operator()(V a, V b) const {
    return a + b;
  }
};

template <class S>
SEQKERN_DEVICE S block_sum(S value) {
  return block_reduce(value, S(0), Add());
}

template <class S>
struct Moments {
  S mean, scale;  // scale: 1 / sqrt(variance + 1e-5)
};

// Of x [size], of which each thread may have written what for_each_unit gives it.
template <class S>
SEQKERN_DEVICE Moments<S> moments(const S* x, int64_t size) {
  S sum = 0, squares = 0;
  for_each_unit(size, [&](int64_t i) { sum += x[i]; });
  const S mean = block_sum(sum) / static_cast<S>(size);
  for_each_unit(size, [&](int64_t i) { squares += (x[i] - mean) * (x[i] - mean); });
  return {mean, 1 / std::sqrt(block_sum(squares) / static_cast<S>(size) + S(1e-5))};
}

// The gradient of a layer norm's x: scale * (d_normal - along_ones - normal * along_normal), where d_normal has no part along
// ones and normal, in which x does not matter.
template <class S>
struct NormGradient {
  S scale, along_ones, along_normal;

  // Sums of d_normal and of d_normal * normal, of this thread in.
  static SEQKERN_DEVICE NormGradient of_sums(S scale, S ones, S normal, int64_t size) {
    return {scale, block_sum(ones) / static_cast<S>(size), block_sum(normal) / static_cast<S>(size)};
  }
  SEQKERN_DEVICE S operator()(S d_normal, S normal) const { return scale * (d_normal - along_ones - normal * along_normal); }
};

// --- launches ---

template <class Params>
cudaError_t launch_rows(void (*kernel)(Params), int64_t rows, int64_t size, bool whole_rows, const Params& params,
                        cudaStream_t stream) {
  if (rows == 0 || size == 0) return cudaSuccess;  // a grid must not be empty
  const int threads = whole_rows ? kThreadsOfRow : kThreads;
  return launch(kernel, {{whole_rows ? 1 : (size + threads - 1) / threads, rows}, threads, stream}, params);
}

// Calls body(Cell()) with a cell of the list.
template <class Body>
cudaError_t for_cell(int cell, const Body& body) {
  int place = 0;
#define SEQKERN_CASE(name, Cell) \
  if (cell == place++) return body(Cell());
  SEQKERN_CELLS(SEQKERN_CASE)
#undef SEQKERN_CASE
  return cudaErrorInvalidValue;
}

// A step of all rows; by whole rows where there are layer norms.
template <class Params>
cudaError_t launch_step(void (*kernel)(Params), void (*normed)(Params), const Params& p, cudaStream_t stream) {
  const bool whole_rows = p.norm_hh || p.norm_c;
  return launch_rows(whole_rows ? normed : kernel, p.batch * p.heads, p.hidden_size, whole_rows, p, stream);
}

}  // namespace seqkern::cuda
