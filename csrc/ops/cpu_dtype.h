// How the CPU ops of every dtype take their tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include "math/types.h"

namespace seqkern::ops {

// Calls body(T()) with the kernels' name of a dtype; `name` is the argument that has it.
template <class Body>
void for_cpu_dtype(at::ScalarType type, const char* name, const Body& body) {
  if (type == at::kFloat)
    body(float());
  else if (type == at::kDouble)
    body(double());
  else if (type == at::kBFloat16)
    body(math::BFloat16());
  else if (type == at::kHalf)
    body(math::Float16());
  else
    TORCH_CHECK_TYPE(false, name, " has dtype ", type, ", expected float32, float64, bfloat16 or float16");
}

// The elements of a tensor: null if it is undefined, which stands for an absent one, and not if it has none.
struct ElementsOf {
  template <class T>
  T* operator()(const at::Tensor& tensor, T) const {
    static T none{};
    if (!tensor.defined()) return nullptr;
    return tensor.numel() ? static_cast<T*>(const_cast<void*>(tensor.const_data_ptr())) : &none;
  }
};
inline constexpr ElementsOf elements;

}  // namespace seqkern::ops
