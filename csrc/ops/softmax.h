// What the CPU and the CUDA implementation of the softmax-loss ops share.
#pragma once

#include <ATen/core/Tensor.h>

namespace seqkern::ops {

using at::Tensor;

void check_softmax_loss(const Tensor& logits, const Tensor& target);

// The dtype of the loss: float64 for float64, else float32, whatever the logits are.
inline at::ScalarType softmax_loss_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace seqkern::ops
