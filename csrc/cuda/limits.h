// What a caller of the kernels may ask of the current device, and do to its memory. Compiled by the C++ compiler too.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace seqkern::cuda {

// Vectors of so many bytes are moved by one instruction, if they are aligned to their size.
constexpr int kVectorBytes = 16;

// What there is of the current device.
struct DeviceLimits {
  int capability;  // 10 * major + minor
  int multiprocessors;
  int shared_bytes;  // of a block, at most
};
inline cudaError_t device_limits(DeviceLimits& limits) {
  int device = 0, major = 0, minor = 0;
  cudaError_t error = cudaGetDevice(&device);
  const auto get = [&](int& value, cudaDeviceAttr attribute) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&value, attribute, device);
  };
  get(major, cudaDevAttrComputeCapabilityMajor);
  get(minor, cudaDevAttrComputeCapabilityMinor);
  get(limits.multiprocessors, cudaDevAttrMultiProcessorCount);
  get(limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  limits.capability = 10 * major + minor;
  return error;
}

// Sets bytes on the device, in the order of the stream.
inline cudaError_t fill_bytes(void* p, int value, size_t bytes, cudaStream_t stream) {
  return cudaMemsetAsync(p, value, bytes, stream);
}

}  // namespace seqkern::cuda
