// What the recurrence's two passes on CUDA share (cuda_recurrent_forward.cpp, cuda_recurrent_backward.cpp).
#pragma once

#include <functional>

#include "cuda/recurrent.h"
#include "ops/cuda_recurrent.h"

namespace seqkern::ops {

// The elements of one row of a contiguous tensor, which may lie outside as long as nothing is read there; null for an undefined
// one.
template <class T>
T* row_pointer(const Tensor& tensor, int64_t row) {
  return tensor.defined() ? output_pointer<T>(tensor) + row * tensor.stride(0) : nullptr;
}
template <class T>
const T* input_row(const Tensor& tensor, int64_t row) {
  return tensor.defined() ? input_pointer<T>(tensor) + row * tensor.stride(0) : nullptr;
}

void set_place(RecurrentStepParams& p, const RecurrentLayer& layer, int64_t step);

// Elements of a row of `size` that is padded to whole vectors.
template <class T>
int64_t padded(int64_t size) {
  constexpr int64_t n = cuda::kVectorBytes / sizeof(T);
  return (size + n - 1) / n * n;
}

// How the steps of a pass run. fits(plan) asks the device.
cuda::RecurrentPlan plan_recurrence(const RecurrentLayer& layer, int64_t steps, bool backward, bool complete,
                                    const std::function<bool(const cuda::RecurrentPlan&)>& fits);

RecurrentTiling tiling_of(const RecurrentLayer& layer, const cuda::RecurrentPlan& plan, int64_t turns);

// Memory of the elements that blocks hand each other: none is there yet.
void mark_missing(const Tensor& tensor, const CudaScope& scope);

}  // namespace seqkern::ops
