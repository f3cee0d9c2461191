// What the recurrent kernels take: one layer, one direction, the whole sequence.
//
// T steps, N sequences, D input features, H hidden units, R features of the hidden state (H, unless it is projected), K heads, G
// gates of the cell, P parameters of the cell. All arrays are contiguous and time-major. Step s of the sequence is row s of the
// arrays in time order; with `reverse` the recurrence runs from the last row to the first.
//
// T_ is the tensors' type, S the type of sums, cell states and whatever is kept for backward.
#pragma once

#include <cstdint>

#include "math/types.h"

namespace seqkern {

struct RecurrentSizes {
  int64_t steps;        // T
  int64_t batch;        // N
  int64_t input_size;   // D
  int64_t hidden_size;  // H: units of one head
  int64_t state_size;   // R: features of one head's hidden state
  int64_t heads;        // K: recurrences side by side, which share nothing
  bool reverse;
  bool reset_to_initial;
  int threads;  // CPU only
};

// What forward and backward share. A null pointer: the argument is absent.
template <class T, class S = math::Sum<T>>
struct RecurrentParams : RecurrentSizes {
  const T* input;        // [T, N, D]; [T, N, K * G * H] pre-activations where weight_ih is null
  const T* h_0;          // [N, K * R]; null: zeros
  const T* c_0;          // [N, K * H]; null: zeros
  const T* weight_ih;    // [G * H, D]
  const T* weight_hh;    // [K, G * H, R]
  const T* bias_ih;      // [K * G * H]
  const T* bias_hh;      // [K * G * H]
  const T* weight_cell;  // [P, K * H]
  const T* weight_hr;    // [R, H]: the hidden state is its product with the cell's
  const T* norm_hh;      // [K * G * H]: the hidden part of the pre-activations is layer-normalised, with this scale
  const T* norm_c;       // [K * H]: c is layer-normalised before the output, with this scale
  const T* norm_c_bias;  // [K * H]
  // Options of the recurrence.
  const int64_t* lengths;   // [N]: the first so many steps of a sequence are taken
  const bool* resets;       // [T, N]: before this step the state is zero, or the initial one (reset_to_initial)
  const T* recurrent_mask;  // [N, K * R]: factor of the hidden state in the product with W_hh
  const T* zoneout_h;       // [T, N, K * H]: how much of the previous hidden state stays
  const T* zoneout_c;       // [T, N, K * H]
};

template <class T, class S = math::Sum<T>>
struct RecurrentForwardParams : RecurrentParams<T, S> {
  T* output;  // [T, N, K * R]
  T* h_n;     // [N, K * R]
  S* c_n;     // [N, K * H]
  S* cells;   // [T, N, K * H], or null
  S* kept;    // [T, N, kept_size()], in an order private to the kernels; or null
};

template <class T, class S = math::Sum<T>>
struct RecurrentBackwardParams : RecurrentParams<T, S> {
  const T* output;    // [T, N, K * R]
  const S* cells;     // [T, N, K * H]
  const S* kept;      // [T, N, kept_size()], as forward left it; null: gates are computed again,
  int64_t recompute;  // so many steps at a time
  // Null stands for zeros.
  const T* d_output;  // [T, N, K * R]
  const T* d_h_n;     // [N, K * R]
  const T* d_c_n;     // [N, K * H]
  const S* d_cells;   // [T, N, K * H]
  // Each result is overwritten; null: not wanted.
  T* d_input;        // as input
  S* d_h_0;          // [N, K * R]
  S* d_c_0;          // [N, K * H]
  S* d_weight_ih;    // [G * H, D]
  S* d_weight_hh;    // [K, G * H, R]
  S* d_bias_ih;      // [K * G * H]
  S* d_bias_hh;      // [K * G * H]
  S* d_weight_cell;  // [P, K * H]
  S* d_weight_hr;    // [R, H]
  S* d_norm_hh;      // [K * G * H]
  S* d_norm_c;       // [K * H]
  S* d_norm_c_bias;  // [K * H]
};

}  // namespace seqkern
