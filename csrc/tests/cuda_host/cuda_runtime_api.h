// The names of the CUDA runtime that launchers use, where kernels run on the host.
#pragma once

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9, cudaErrorLaunchFailure = 719,
                      cudaErrorCooperativeLaunchTooLarge = 720;
