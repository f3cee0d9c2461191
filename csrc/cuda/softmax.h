// Launcher of the softmax-loss CUDA kernels. T: float, double, math::BFloat16 or Float16.
#pragma once

#include <cuda_runtime_api.h>

#include "math/types.h"
#include "params/softmax_cuda.h"

namespace seqkern::cuda {

using math::Float16;
using math::Sum;

template <class T>
cudaError_t launch_softmax_loss(const SoftmaxLossCudaParams<T, Sum<T>>& params, cudaStream_t stream);

}  // namespace seqkern::cuda
