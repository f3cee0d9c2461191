// Launchers of the recurrent CUDA kernels. T: float, double, math::BFloat16 or Float16.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/types.h"
#include "params/recurrent_step.h"

namespace seqkern::cuda {

template <class T>
cudaError_t launch_lstm_step_forward(const RecurrentStepForwardParams<T, Sum<T>>& params, cudaStream_t stream);

template <class T>
cudaError_t launch_lstm_step_backward(const RecurrentStepBackwardParams<T, Sum<T>>& params, cudaStream_t stream);

}  // namespace seqkern::cuda
