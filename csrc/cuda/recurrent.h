// Launchers of the recurrent CUDA kernels. `cell` is a cell's place in math/cell_list.h; T: float, double, math::BFloat16 or
// Float16.
#pragma once

#include <cuda_runtime_api.h>

#include "math/types.h"
#include "params/recurrent_step.h"

namespace seqkern::cuda {

using math::Float16;
using math::Sum;

// The input of the product with W_hh at one or more steps, where that is not an array at hand.
template <class T>
cudaError_t launch_recurrent_enter(const RecurrentEnterParams<T>& params, cudaStream_t stream);

// The pointwise part of a step. Of a gated candidate: recurrent_gate gives `gated`, the input of the candidate's product, before
// recurrent_forward; recurrent_candidate gives the candidate's d_gates_x, whose product d_gated is, before recurrent_backward.
template <class T>
cudaError_t launch_recurrent_gate(int cell, const RecurrentStepForwardParams<T>& params, cudaStream_t stream);

template <class T>
cudaError_t launch_recurrent_forward(int cell, const RecurrentStepForwardParams<T>& params, cudaStream_t stream);

template <class T>
cudaError_t launch_recurrent_candidate(int cell, const RecurrentStepBackwardParams<T>& params, cudaStream_t stream);

template <class T>
cudaError_t launch_recurrent_backward(int cell, const RecurrentStepBackwardParams<T>& params, cudaStream_t stream);

// The gradient of a step's hidden state alone: for the projection's backward pass, and with step -1 for that of h_0.
template <class T>
cudaError_t launch_recurrent_arrive(const RecurrentArriveParams<T>& params, cudaStream_t stream);

}  // namespace seqkern::cuda
