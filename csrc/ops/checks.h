// Argument checks shared by the ops. Each failure names the argument, what was given and what was expected, and becomes a
// TypeError or ValueError in Python.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace seqkern::ops {

// `name` must be an argument of the dtype and device of `like` (called `like_name`).
inline void check_like(const at::Tensor& tensor, const char* name, const at::Tensor& like, const char* like_name) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == like.scalar_type(), name, " has dtype ", tensor.scalar_type(), ", expected ",
                   like.scalar_type(), " as ", like_name, " has");
  TORCH_CHECK_VALUE(tensor.device() == like.device(), name, " is on ", tensor.device(), ", expected ", like.device(), " as ",
                    like_name, " is");
}

inline void check_shape(const at::Tensor& tensor, const char* name, at::IntArrayRef expected, const char* meaning) {
  TORCH_CHECK_VALUE(tensor.sizes() == expected, name, " has shape ", tensor.sizes(), ", expected ", expected, " = ", meaning);
}

}  // namespace seqkern::ops
