// In place of csrc/ops/cuda_context.h: the CUDA ops run on the host, on tensors there. The executor is told what tensors a launch
// may touch; what else a kernel does to memory fails the launch.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <mutex>

#include "cuda_runtime_api.h"
#include "executor.h"

#define C10_CUDA_CHECK(launch) TORCH_CHECK((launch) == cudaSuccess, "a launch failed: ", seqkern::host::last_report())

namespace seqkern::ops {

// One at a time: there is one executor, and torch's users may have several threads.
class CudaScope {
 public:
  explicit CudaScope(const at::Tensor&) : lock_(mutex_), autocast_(c10::autocast_dispatch_keyset) { host::forget_buffers(); }

  cudaStream_t stream() const { return nullptr; }

 private:
  inline static std::mutex mutex_;
  std::lock_guard<std::mutex> lock_;
  at::AutoDispatchBelowADInplaceOrView autograd_;
  c10::impl::ExcludeDispatchKeyGuard autocast_;
};

template <class T>
T* output_pointer(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  host::declare_buffer(tensor.data_ptr(), tensor.nbytes());
  return static_cast<T*>(tensor.data_ptr());
}
template <class T>
const T* input_pointer(const at::Tensor& tensor) {
  return output_pointer<T>(tensor);
}

}  // namespace seqkern::ops
