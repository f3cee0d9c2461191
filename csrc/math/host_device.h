// Marks functions that are compiled for the host and, by nvcc, for the device as well.
#pragma once

#if defined(__CUDACC__)
#define SEQKERN_HD __host__ __device__ __forceinline__
#else
#define SEQKERN_HD inline __attribute__((always_inline))
#endif
