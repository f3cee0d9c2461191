// What the CPU and the CUDA implementation of the ops on columns share.
#pragma once

#include <ATen/core/Tensor.h>

namespace seqkern::ops {

// Checks a matrix, which `meaning` describes, and the ids that go with it.
inline void check_columns(const at::Tensor& matrix, const char* name, const char* meaning, const at::Tensor& ids) {
  TORCH_CHECK_VALUE(matrix.dim() == 2, name, " has shape ", matrix.sizes(), ", expected 2 dimensions ", meaning);
  TORCH_CHECK_TYPE(ids.scalar_type() == at::kLong, "ids has dtype ", ids.scalar_type(), ", expected Long");
  TORCH_CHECK_VALUE(ids.dim() == 1, "ids has shape ", ids.sizes(), ", expected 1 dimension (M)");
  TORCH_CHECK_VALUE(ids.device() == matrix.device(), "ids is on ", ids.device(), ", expected ", matrix.device(), " as ", name,
                    " is");
}

// Checks d [M, R] and ids [M].
inline void check_scattered_columns(const at::Tensor& d, const at::Tensor& ids) {
  check_columns(d, "d", "(M, R)", ids);
  TORCH_CHECK_VALUE(d.size(0) == ids.size(0), "ids has shape ", ids.sizes(), ", expected [", d.size(0), "] = (M)");
}

}  // namespace seqkern::ops
