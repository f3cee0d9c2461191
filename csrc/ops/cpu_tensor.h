// Tensors for the results of the CPU kernels.
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>

#include "cpu/buffer.h"

namespace seqkern::ops {

// The kernels' working memory, for torch: a large result of a training step, once its last user is gone, is there for the next.
class WorkingMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* const memory = bytes ? cpu::take_memory(static_cast<int64_t>(bytes)) : nullptr;
    return {memory, memory, give_back, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static void give_back(void* memory) {
    if (memory) cpu::return_memory(memory);
  }
};

// Uninitialised.
inline at::Tensor new_tensor(at::IntArrayRef sizes, const at::TensorOptions& options) {
  static WorkingMemory memory;
  return at::detail::empty_generic(sizes, &memory, c10::DispatchKeySet(c10::DispatchKey::CPU),
                                   c10::typeMetaToScalarType(options.dtype()), std::nullopt);
}

}  // namespace seqkern::ops
