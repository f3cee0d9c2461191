// Launchers of the recurrent CUDA kernels. `cell` is a cell's place in math/cell_list.h; T: float, double, math::BFloat16 or
// Float16.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/recurrent_plan.h"
#include "math/types.h"
#include "params/recurrent_persistent.h"
#include "params/recurrent_step.h"

namespace seqkern::cuda {

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

// All steps of a recurrence in one launch, as `plan` lays it out (not by steps); T is not double, and there are neither layer
// norms nor a projection. With `fits`, nothing is launched: it says whether the device can run it.
template <class T>
cudaError_t launch_recurrent_persistent(int cell, const RecurrentPlan& plan, const RecurrentPersistentForwardParams<T>& params,
                                        cudaStream_t stream, bool* fits = nullptr);
template <class T>
cudaError_t launch_recurrent_persistent(int cell, const RecurrentPlan& plan, const RecurrentPersistentBackwardParams<T>& params,
                                        cudaStream_t stream, bool* fits = nullptr);

}  // namespace seqkern::cuda
