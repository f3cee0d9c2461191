// Tensors for the results of the CPU kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cpu/buffer.h"

namespace seqkern::ops {

// Uninitialised, in huge pages where it is large.
inline at::Tensor new_tensor(at::IntArrayRef sizes, const at::TensorOptions& options) {
  at::Tensor tensor = at::empty(sizes, options);
  cpu::prefer_huge_pages(tensor.mutable_data_ptr(), static_cast<int64_t>(tensor.nbytes()));
  return tensor;
}

}  // namespace seqkern::ops
