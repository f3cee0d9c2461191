// What the softmax-loss kernels take. R rows (time steps times sequences), V classes; arrays are contiguous.
#pragma once

#include <cstdint>

namespace seqkern {

// T: float, double or math::BFloat16 (CPU); sums are float32, or float64 for double.
template <class T>
struct SoftmaxLossParams {
  int64_t rows;           // R
  int64_t classes;        // V
  int64_t ignore_index;   // rows with this target count for nothing
  int threads;            // CPU only
  const T* logits;        // [R, V]
  const int64_t* target;  // [R], in [0, V) or ignore_index
  double* row_loss;       // [R] workspace
  double* loss;           // [1]: the mean over the rows that count, 0 where none does
  T* d_logits;            // [R, V]: the gradient of the loss, or null
};

}  // namespace seqkern
