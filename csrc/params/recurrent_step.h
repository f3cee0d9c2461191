// What the pointwise kernels of one recurrent step take (CUDA; on the CPU a step is part of a larger kernel, params/recurrent.h).
//
// N sequences, H hidden features, G gates of the cell; all arrays are contiguous. T is the tensors' type, S the type of sums,
// gates and cell states.
#pragma once

#include <cstdint>

namespace seqkern {

template <class T, class S>
struct RecurrentStepForwardParams {
  int64_t batch;        // N
  int64_t hidden_size;  // H
  const S* gates_x;     // [N, G * H]: x W_ih^T
  const S* gates_h;     // [N, G * H]: h_prev W_hh^T
  const T* bias_ih;     // [G * H], or null
  const T* bias_hh;     // [G * H], or null
  const S* c_prev;      // [N, H]
  S* c;                 // [N, H]; may be c_prev
  T* h;                 // [N, H]
  S* gates;             // [N, G * H]: activations, for backward; may be gates_x; null when they are not kept
};

template <class T, class S>
struct RecurrentStepBackwardParams {
  int64_t batch;        // N
  int64_t hidden_size;  // H
  const S* gates;       // [N, G * H]: activations, as forward left them
  const S* c_prev;      // [N, H]
  const S* c;           // [N, H]
  const T* d_output;    // [N, H]: gradient of h as this step's output; null for zeros
  const S* d_h;         // [N, H]: gradient of h as the next step's input
  S* d_c;               // [N, H]: gradient of c from the next step in, gradient of c_prev out
  T* d_gates;           // [N, G * H]: gradient of the pre-activations
};

}  // namespace seqkern
