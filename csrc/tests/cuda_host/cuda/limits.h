// cuda/limits.h for the host: the limits are those of the simulated device (executor.h).
#pragma once

#include <cstddef>

#include "cuda_runtime_api.h"

namespace seqkern::cuda {

constexpr int kVectorBytes = 16;

struct DeviceLimits {
  int capability;
  int multiprocessors;
  int shared_bytes;
};
cudaError_t device_limits(DeviceLimits& limits);

cudaError_t fill_bytes(void* p, int value, size_t bytes, cudaStream_t stream);

}  // namespace seqkern::cuda
