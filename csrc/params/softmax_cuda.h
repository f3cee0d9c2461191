// What the softmax-loss kernels take on CUDA (params/softmax.h is the CPU's). R rows, V classes; arrays are contiguous and in
// device memory. T is the tensors' type, S the type of sums and of the loss.
#pragma once

#include <cstdint>

namespace seqkern {

template <class T, class S>
struct SoftmaxLossCudaParams {
  int64_t rows;           // R
  int64_t classes;        // V
  int64_t ignore_index;   // rows with this target count for nothing
  const T* logits;        // [R, V]
  const int64_t* target;  // [R]: in [0, V) or ignore_index; any other makes the loss and the row's gradient NaN
  int64_t* count;         // [1] workspace: how many rows count
  S* row_loss;            // [R] workspace
  S* loss;                // [1]: the mean over the rows that count, 0 where none does
  T* d_logits;            // [R, V]: the gradient of the loss, or null
};

}  // namespace seqkern
