// Launchers of the softmax-loss CUDA kernels. T: float, double, math::BFloat16 or Float16.
//
// A loss takes the three in this order; `rows` may be called several times, for parts of the rows. The gradient from known
// numbers (d_numbers) takes `rows` alone.
#pragma once

#include <cuda_runtime_api.h>

#include "params/softmax.h"

namespace seqkern::cuda {

using math::Float16;
using math::Sum;

// Writes the denominator, by the targets of all rows.
template <class T>
cudaError_t launch_softmax_denominator(const SoftmaxParams<T>& params, cudaStream_t stream);

// Writes numbers and ranks, and with d_logits the gradient, for which it reads the denominator. d_logits may be the logits.
// A target that is neither one of all classes nor ignore_index makes the row's numbers and its gradient NaN.
template <class T>
cudaError_t launch_softmax_rows(const SoftmaxParams<T>& params, cudaStream_t stream);

// Writes the loss by numbers and denominator, unless there is no reduction.
template <class T>
cudaError_t launch_softmax_loss(const SoftmaxParams<T>& params, cudaStream_t stream);

template <class T>
cudaError_t launch_scale(const ScaleParams<T>& params, cudaStream_t stream);

}  // namespace seqkern::cuda
