// What the CPU and the CUDA implementation of the softmax-loss ops share.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/checks.h"

namespace seqkern::ops {

using at::Tensor;

inline void check_softmax_loss(const Tensor& logits, const Tensor& target) {
  TORCH_CHECK_TYPE(logits.is_floating_point(), "logits has dtype ", logits.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_TYPE(target.scalar_type() == at::kLong, "target has dtype ", target.scalar_type(), ", expected int64");
  TORCH_CHECK_VALUE(logits.dim() >= 1 && logits.size(-1) > 0, "logits has shape ", logits.sizes(),
                    ", expected (..., V) with V > 0");
  check_shape(target, "target", logits.sizes().slice(0, static_cast<size_t>(logits.dim() - 1)),
              "the shape of logits without its last dimension");
  TORCH_CHECK_VALUE(target.device() == logits.device(), "target is on ", target.device(), ", expected ", logits.device(),
                    " as logits is");
}

// The dtype of the loss: float64 for float64, else float32, whatever the logits are.
inline at::ScalarType softmax_loss_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace seqkern::ops
