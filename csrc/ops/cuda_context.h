// The context that the CUDA implementations of the ops run in, and the tensors' elements as a kernel gets them.
//
// csrc/tests/cuda_host/ops has a second header of this name, with which the ops run on the host.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

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
