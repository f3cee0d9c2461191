// What the CUDA implementations of the ops share: dtypes and tensors as the kernels take them, and the context they run in.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "math/types.h"

namespace seqkern::ops {

// While it lives: the device of `tensor` is the current one, and ATen functions go straight to their kernels, without autograd
// (whose formulas are in seqkern/functional) and without autocast.
class CudaScope {
 public:
  explicit CudaScope(const at::Tensor& tensor) : device_(tensor.device()), autocast_(c10::autocast_dispatch_keyset) {}

  // The stream that torch's user has made current.
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(); }

 private:
  c10::cuda::CUDAGuard device_;
  at::AutoDispatchBelowADInplaceOrView autograd_;
  c10::impl::ExcludeDispatchKeyGuard autocast_;
};

inline void check_cuda_dtype(const at::Tensor& tensor, const char* name) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf, name, " has dtype ",
                   type, ", expected float32, float64, bfloat16 or float16 on CUDA");
}

// Calls body(T()), where T is the kernels' name of a dtype that check_cuda_dtype admits.
template <class Body>
void for_dtype(at::ScalarType dtype, const Body& body) {
  if (dtype == at::kFloat) body(float());
  if (dtype == at::kDouble) body(double());
  if (dtype == at::kBFloat16) body(math::BFloat16());
  if (dtype == at::kHalf) body(math::Float16());
}

// The elements of a contiguous tensor, of which T is a name; null for an undefined one.
template <class T>
const T* input_pointer(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}
template <class T>
T* output_pointer(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

}  // namespace seqkern::ops
