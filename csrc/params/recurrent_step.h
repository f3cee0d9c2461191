// What the pointwise kernels of one recurrent step take (CUDA; on the CPU a step is part of a larger kernel, params/recurrent.h).
//
// N sequences, K heads, H hidden units of a head, R features of a head's hidden state (H, unless it is projected), G gates and P
// parameters of the cell. All arrays are contiguous; those of a step are its row of the arrays over all steps. A null pointer:
// the argument is absent, or the result is not wanted. T is the tensors' type, S the type of sums, gates and cell states.
#pragma once

#include <cstdint>

#include "math/types.h"

namespace seqkern {

// A step's place in the recurrence, by which the kernels tell whether a sequence takes it, and which state it begins with.
struct RecurrentStepParams {
  int64_t steps;        // T
  int64_t step;         // in the order of the recurrence: with `reverse`, step 0 is row T - 1 of the arrays
  int64_t batch;        // N
  int64_t heads;        // K
  int64_t hidden_size;  // H
  bool reverse;
  bool reset_to_initial;
  const int64_t* lengths;  // [N]
  const bool* resets;      // [T, N]
};

// What a layer norm leaves for backward: normal = (x - mean) * scale.
template <class S>
struct StepNorm {
  S* normal;  // [N, K, G, H] for the hidden part of the gates, [N, K, H] for the cell state
  S* scale;   // [N, K]
};

// The input of the product with W_hh, of `count` steps from `step` on: recurrent_mask times the state that enters the step.
template <class T>
struct RecurrentEnterParams : RecurrentStepParams {
  int64_t count;
  int64_t state_size;       // R
  const T* h_0;             // [N, K, R]
  const T* output;          // [T, N, K, R]
  const T* recurrent_mask;  // [N, K, R]
  int64_t row_size;         // of a row of h: R or more
  T* h;                     // [count, N, K, row_size], in the order of the rows of output; written up to R
};

template <class T, class S = math::Sum<T>>
struct RecurrentStepForwardParams : RecurrentStepParams {
  const S* gates_x;  // [N, K, G, H]: x W_ih^T
  S* gates_h;        // [K, N, G, H]: h W_hh^T; but for a gated candidate, whose hidden part is in candidate_h: [K, N, G - 1, H]
  const S* candidate_h;     // [K, N, H]
  const T* bias_ih;         // [K, G, H]
  const T* bias_hh;         // [K, G, H]
  const T* weight_cell;     // [P, K, H]
  const T* norm_hh;         // [K, G, H]
  const T* norm_c;          // [K, H]
  const T* norm_c_bias;     // [K, H]
  const T* h_0;             // [N, K, H]
  const T* c_0;             // [N, K, H]
  const T* h_prev;          // [N, K, H]: h of the step before; at step 0 not read
  const T* recurrent_mask;  // [N, K, H]
  const T* zoneout_h;       // [N, K, H]
  const T* zoneout_c;       // [N, K, H]

  S* c;       // [N, K, H]: state after the last step taken, in and out
  S* cells;   // [N, K, H]: the same of this step
  T* h;       // [N, K, H]: before its projection
  T* h_next;  // [N, K, H]: input of the next step's product with W_hh, where that is not h
  T* gated;   // [N, K, H]: input of the candidate's product with W_hh
  // For backward. slots and norm_c's arrays are needed besides where c is layer-normalised.
  S* slots;        // [N, K, G, H]: the input slots, in the places of their gates; may be gates_x
  S* hidden_slot;  // [N, K, H]: the last slot of a candidate that is kept apart
  S* cell_h;       // [N, K, H]: h in the type of sums
  StepNorm<S> hh;  // of norm_hh
  StepNorm<S> cc;  // of norm_c
};

// How the gradient of the state after a step comes together: from the step after it, and from the output.
template <class T, class S = math::Sum<T>>
struct RecurrentArriveParams : RecurrentStepParams {
  int64_t state_size;       // R
  const T* d_output;        // [N, K, R]
  const S* d_product;       // [K, N, R]: gradient of the next step's product input; null after the last step
  const T* recurrent_mask;  // [N, K, R]
  S* d_direct;  // [N, K, R]: what comes from the next step besides, or from the final state; in, and the same of this step out
  S* d_h_0;     // [N, K, R]: added to, where the next step began with the initial state
  T* d_h;       // [N, K, R]: the sum; zeros where the step is not taken
};

template <class T, class S = math::Sum<T>>
struct RecurrentStepBackwardParams : RecurrentArriveParams<T, S> {
  // As forward left them.
  const S* slots;        // [N, K, G, H]
  const S* hidden_slot;  // [N, K, H]
  StepNorm<const S> hh, cc;

  const T* weight_cell;  // [P, K, H]
  const T* norm_hh;      // [K, G, H]
  const T* norm_c;       // [K, H]
  const T* norm_c_bias;  // [K, H]
  const T* h_0;          // [N, K, H]
  const T* c_0;          // [N, K, H]
  const T* h_prev;       // [N, K, H]: h and c of the step before; at step 0 not read
  const S* c_prev;       // [N, K, H]
  const T* zoneout_h;    // [N, K, H]
  const T* zoneout_c;    // [N, K, H]
  const S* d_cells;      // [N, K, H]
  const S* d_gated;      // [K, N, H]: gradient of the candidate's product input

  bool arrived;   // the gradient of h is in d_cell_h; else it comes together here (and is left there for the candidate and norms)
  S* d_cell_h;    // [N, K, H]: gradient of h before its projection
  S* d_c;         // [N, K, H]: gradient of c from the next step in, from this one out
  S* d_c_0;       // [N, K, H]: added to, where this step began with the initial state
  T* d_gates_x;   // [N, K, G, H]: gradients of the pre-activations' input part
  T* d_gates_h;   // [N, K, G, H]: of W_hh h, where they differ from those
  S* d_normed_h;  // [N, K, G, H] workspace, where norm_hh is there
  T* gated;       // [N, K, H]: input of the candidate's product with W_hh, again
  // Sums over the steps, added to.
  S* d_weight_cell;  // [N, P, K, H]
  S* d_norm_hh;      // [N, K, G, H]
  S* d_bias_hh;      // [N, K, G, H], where norm_hh is there
  S* d_norm_c;       // [N, K, H]
  S* d_norm_c_bias;  // [N, K, H]
};

}  // namespace seqkern
