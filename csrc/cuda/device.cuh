// The device primitives that kernels are written in: places of threads, reductions over a block, vectors in memory with
// conversion of types, and launches.
//
// Kernels use CUDA through this header alone, and are right for every number of blocks and of threads a block: a second
// implementation of the header can execute them elsewhere (csrc/tests/cuda_host does, on the host).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "math/types.h"

#define SEQKERN_DEVICE __device__ __forceinline__
// A kernel that is launched with at most so many threads a block.
#define SEQKERN_KERNEL(max_threads) __global__ void __launch_bounds__(max_threads)
// Before a loop: so many turns at once, and their loads before the first use. (Loops of constant length need no asking.)
#define SEQKERN_UNROLL(turns) SEQKERN_PRAGMA(unroll turns)
#define SEQKERN_PRAGMA(text) _Pragma(#text)

namespace seqkern::cuda {

using math::Float16;
using math::Sum;

// --- places of threads: blocks lie in a grid of two dimensions, threads of a block in one ---

constexpr int kWarpSize = 32;

SEQKERN_DEVICE int64_t thread_index() { return threadIdx.x; }
SEQKERN_DEVICE int64_t block_size() { return blockDim.x; }
SEQKERN_DEVICE int64_t block_index() { return blockIdx.x; }
SEQKERN_DEVICE int64_t block_count() { return gridDim.x; }
SEQKERN_DEVICE int64_t block_index_y() { return blockIdx.y; }
SEQKERN_DEVICE int64_t block_count_y() { return gridDim.y; }

// --- reductions: called by all threads of a block, which must be whole warps; every thread gets the same bits in every run ---

template <class V, class Combine>
SEQKERN_DEVICE V warp_reduce(V value, const Combine& combine) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, offset));
  return value;
}

// combine(a, b) must equal combine(b, a) bit by bit; identity changes nothing that it is combined with.
template <class V, class Combine>
SEQKERN_DEVICE V block_reduce(V value, V identity, const Combine& combine) {
  __shared__ V of_warp[kWarpSize];
  const unsigned lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  value = warp_reduce(value, combine);
  __syncthreads();  // whoever still reads the result of an earlier call is done
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  return warp_reduce(lane < warps ? of_warp[lane] : identity, combine);
}

// --- numbers in memory ---

SEQKERN_DEVICE float to_sum(float x) { return x; }
SEQKERN_DEVICE double to_sum(double x) { return x; }
SEQKERN_DEVICE float to_sum(math::BFloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
SEQKERN_DEVICE float to_sum(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }

// Rounds to nearest, ties to even.
SEQKERN_DEVICE void from_sum(float x, float& y) { y = x; }
SEQKERN_DEVICE void from_sum(double x, double& y) { y = x; }
SEQKERN_DEVICE void from_sum(float x, math::BFloat16& y) { y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
SEQKERN_DEVICE void from_sum(float x, Float16& y) { y.bits = __half_as_ushort(__float2half_rn(x)); }

// Vectors of so many bytes are moved by one instruction, if they are aligned to their size.
constexpr int kVectorBytes = 16;

template <class V, int n>
struct Vector {
  V at[n];
};

template <class T, int n>
struct alignas(sizeof(T) * n) Packed {
  T at[n];
};

// n elements in memory that no thread writes while the kernel runs; p is aligned to n elements.
template <int n, class T>
SEQKERN_DEVICE Vector<Sum<T>, n> load(const T* p) {
  Packed<T, n> packed;
  if constexpr (sizeof(packed) == kVectorBytes) {
    const uint4 raw = __ldg(reinterpret_cast<const uint4*>(p));
    memcpy(&packed, &raw, sizeof(raw));
  } else {
    packed = *reinterpret_cast<const Packed<T, n>*>(p);
  }
  Vector<Sum<T>, n> values;
  for (int i = 0; i < n; ++i) values.at[i] = to_sum(packed.at[i]);
  return values;
}

// Stores what is not read again soon, at p aligned to n elements.
template <class T, int n>
SEQKERN_DEVICE void store_streaming(T* p, const Vector<Sum<T>, n>& values) {
  Packed<T, n> packed;
  for (int i = 0; i < n; ++i) from_sum(values.at[i], packed.at[i]);
  if constexpr (sizeof(packed) == kVectorBytes) {
    uint4 raw;
    memcpy(&raw, &packed, sizeof(raw));
    __stcs(reinterpret_cast<uint4*>(p), raw);
  } else {
    *reinterpret_cast<Packed<T, n>*>(p) = packed;
  }
}

// --- launches ---

struct Grid {
  int64_t x, y;  // numbers of blocks; more than a launch can hold are cut to what it can
};

template <class Params>
cudaError_t launch(void (*kernel)(Params), Grid grid, int threads, cudaStream_t stream, const Params& params) {
  constexpr int64_t kMaxX = 0x7FFFFFFF, kMaxY = 0xFFFF;
  const dim3 blocks(static_cast<unsigned>(grid.x < kMaxX ? grid.x : kMaxX),
                    static_cast<unsigned>(grid.y < kMaxY ? grid.y : kMaxY));
  kernel<<<blocks, static_cast<unsigned>(threads), 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace seqkern::cuda
