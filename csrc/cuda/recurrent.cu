// The pointwise part of one recurrent step on CUDA, forward and backward, for any cell of math/.
//
// Each hidden unit of each sequence is one thread's: it reads the unit's G gates, applies the cell, and writes what the step
// yields. The products with the weights are the caller's (ops/cuda_recurrent.cpp). Threads along the units read and write
// neighbouring elements; sequences lie along the grid's y, so that no index needs a division.
#include "cuda/recurrent.h"

#include "cuda/device.cuh"
#include "math/lstm_cell.h"

namespace seqkern::cuda {
namespace {

constexpr int kThreads = 128;

template <class T>
SEQKERN_DEVICE Sum<T> value_or_zero(const T* p, int64_t i) {
  return p ? to_sum(p[i]) : Sum<T>(0);
}

template <class Cell, class T>
SEQKERN_KERNEL(kThreads)
step_forward(RecurrentStepForwardParams<T, Sum<T>> p) {
  constexpr int G = Cell::kGates;
  const int64_t H = p.hidden_size;
  for (int64_t j = block_index() * block_size() + thread_index(); j < H; j += block_count() * block_size()) {
    for (int64_t n = block_index_y(); n < p.batch; n += block_count_y()) {
      Sum<T> gates[G], c;
      for (int g = 0; g < G; ++g) {
        const int64_t column = g * H + j, at = n * G * H + column;
        gates[g] = p.gates_x[at] + p.gates_h[at] + (value_or_zero(p.bias_ih, column) + value_or_zero(p.bias_hh, column));
      }
      const Sum<T> h = Cell::forward(gates, p.c_prev[n * H + j], c);
      p.c[n * H + j] = c;
      from_sum(h, p.h[n * H + j]);
      if (p.gates) {
        for (int g = 0; g < G; ++g) p.gates[n * G * H + g * H + j] = gates[g];
      }
    }
  }
}

template <class Cell, class T>
SEQKERN_KERNEL(kThreads)
step_backward(RecurrentStepBackwardParams<T, Sum<T>> p) {
  constexpr int G = Cell::kGates;
  const int64_t H = p.hidden_size;
  for (int64_t j = block_index() * block_size() + thread_index(); j < H; j += block_count() * block_size()) {
    for (int64_t n = block_index_y(); n < p.batch; n += block_count_y()) {
      const int64_t unit = n * H + j;
      Sum<T> gates[G];
      for (int g = 0; g < G; ++g) gates[g] = p.gates[n * G * H + g * H + j];
      const Sum<T> dh = p.d_h[unit] + value_or_zero(p.d_output, unit);
      Sum<T> dc = p.d_c[unit];
      Cell::backward(gates, p.c_prev[unit], p.c[unit], dh, dc);
      p.d_c[unit] = dc;
      for (int g = 0; g < G; ++g) from_sum(gates[g], p.d_gates[n * G * H + g * H + j]);
    }
  }
}

template <class Params>
cudaError_t launch_step(void (*kernel)(Params), const Params& params, cudaStream_t stream) {
  if (params.batch == 0 || params.hidden_size == 0) return cudaSuccess;  // a grid must not be empty
  return launch(kernel, Grid{(params.hidden_size + kThreads - 1) / kThreads, params.batch}, kThreads, stream, params);
}

}  // namespace

template <class T>
cudaError_t launch_lstm_step_forward(const RecurrentStepForwardParams<T, Sum<T>>& params, cudaStream_t stream) {
  return launch_step(step_forward<math::LstmCell, T>, params, stream);
}

template <class T>
cudaError_t launch_lstm_step_backward(const RecurrentStepBackwardParams<T, Sum<T>>& params, cudaStream_t stream) {
  return launch_step(step_backward<math::LstmCell, T>, params, stream);
}

#define SEQKERN_INSTANTIATE(T)                                                                               \
  template cudaError_t launch_lstm_step_forward(const RecurrentStepForwardParams<T, Sum<T>>&, cudaStream_t); \
  template cudaError_t launch_lstm_step_backward(const RecurrentStepBackwardParams<T, Sum<T>>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(Float16)

}  // namespace seqkern::cuda
