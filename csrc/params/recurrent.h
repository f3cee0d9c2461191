// What the recurrent kernels take: one layer, one direction, the whole sequence.
//
// T steps, N sequences, D input features, H hidden features, G gates of the cell. All arrays are contiguous and time-major.
// Step s of the sequence is row s of the arrays in time order; with `reverse` the recurrence runs from the last row to the first.
#pragma once

#include <cstdint>

namespace seqkern {

struct RecurrentSizes {
  int64_t steps;        // T
  int64_t batch;        // N
  int64_t input_size;   // D
  int64_t hidden_size;  // H
  bool reverse;
  int threads;  // CPU only
};

template <class T>
struct RecurrentForwardParams : RecurrentSizes {
  const T* input;      // [T, N, D]
  const T* h_0;        // [N, H]
  const T* c_0;        // [N, H]
  const T* weight_ih;  // [G * H, D]
  const T* weight_hh;  // [G * H, H]
  const T* bias_ih;    // [G * H], or null
  const T* bias_hh;    // [G * H], or null
  T* output;           // [T, N, H]
  T* h_n;              // [N, H]
  T* c_n;              // [N, H]
  // Kept for backward; null when nothing is to be kept. gates holds activations in an order private to the kernel.
  T* gates;  // [T, N, G * H]
  T* cells;  // [T, N, H]
};

template <class T>
struct RecurrentBackwardParams : RecurrentSizes {
  const T* input;      // [T, N, D]
  const T* h_0;        // [N, H]
  const T* c_0;        // [N, H]
  const T* weight_ih;  // [G * H, D]
  const T* weight_hh;  // [G * H, H]
  const T* output;     // [T, N, H]
  const T* gates;      // [T, N, G * H], as forward left it
  const T* cells;      // [T, N, H]
  // Null stands for zeros.
  const T* d_output;  // [T, N, H]
  const T* d_h_n;     // [N, H]
  const T* d_c_n;     // [N, H]
  // Each result is overwritten.
  T* d_input;      // [T, N, D]
  T* d_h_0;        // [N, H]
  T* d_c_0;        // [N, H]
  T* d_weight_ih;  // [G * H, D]
  T* d_weight_hh;  // [G * H, H]
  T* d_bias;       // [G * H]: the gradient of bias_ih and of bias_hh alike
};

}  // namespace seqkern
