// What the CUDA implementations of the ops share: dtypes as the kernels take them, and (cuda_context.h) the context they run in.
#pragma once

#include "math/types.h"
#include "ops/cuda_context.h"

namespace seqkern::ops {

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

}  // namespace seqkern::ops
