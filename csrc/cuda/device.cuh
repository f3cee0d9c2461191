// The device primitives that kernels are written in: places of threads, barriers, what warps, clusters and grids share, vectors
// in memory with conversion of types, matrix units, and launches.
//
// Kernels use CUDA through this header alone, and are right in whatever order threads and blocks run between barriers: a second
// implementation of the header (csrc/tests/cuda_host) executes them on the host, in random orders, and checks what they access.
#pragma once

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "cuda/limits.h"
#include "math/types.h"

#define SEQKERN_DEVICE __device__ __forceinline__
// SEQKERN_KERNEL(n) or (n, m): a kernel that is launched with at most n threads a block; m blocks are to fit a multiprocessor.
#define SEQKERN_KERNEL(...) __global__ void __launch_bounds__(__VA_ARGS__)
// After the parameters of a lambda: where it is called often, and what it captures must stay in registers.
#define SEQKERN_INLINE __attribute__((always_inline))
// A parameter of a kernel of which references are taken.
#define SEQKERN_CONSTANT __grid_constant__ const
// Before a loop: so many turns at once, and their loads before the first use. (Loops of constant length need no asking.)
#define SEQKERN_UNROLL(turns) SEQKERN_PRAGMA(unroll turns)
#define SEQKERN_PRAGMA(text) _Pragma(#text)
// Type name[count] of the block, in a function; not initialised.
#define SEQKERN_SHARED(Type, name, count) __shared__ Type name[count]

namespace seqkern::cuda {

using math::BFloat16;
using math::Float16;
using math::Sum;

// --- places of threads: blocks lie in a grid of two dimensions, threads of a block in one ---

constexpr int kWarpSize = 32;

// Whether what is compiled is for devices with clusters; where it is not, what needs them must not be reached.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kHasClusters = false;
#define SEQKERN_WITH_CLUSTERS(...) __trap()
#else
constexpr bool kHasClusters = true;
#define SEQKERN_WITH_CLUSTERS(...) __VA_ARGS__
#endif

SEQKERN_DEVICE int64_t thread_index() { return threadIdx.x; }
SEQKERN_DEVICE int64_t block_size() { return blockDim.x; }
SEQKERN_DEVICE int64_t block_index() { return blockIdx.x; }
SEQKERN_DEVICE int64_t block_count() { return gridDim.x; }
SEQKERN_DEVICE int64_t block_index_y() { return blockIdx.y; }
SEQKERN_DEVICE int64_t block_count_y() { return gridDim.y; }
SEQKERN_DEVICE int lane_index() { return static_cast<int>(threadIdx.x % kWarpSize); }
SEQKERN_DEVICE int warp_index() { return static_cast<int>(threadIdx.x / kWarpSize); }

// --- barriers: called by all threads of the warp, block, cluster or grid, at one place in the kernel. What a thread wrote
// before, the others see after. ---

SEQKERN_DEVICE void sync_warp() { __syncwarp(); }
SEQKERN_DEVICE void sync_block() { __syncthreads(); }
SEQKERN_DEVICE void sync_grid() { cooperative_groups::this_grid().sync(); }  // in cooperative launches
SEQKERN_DEVICE void sync_cluster() {
  SEQKERN_WITH_CLUSTERS(
      asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" :: : "memory"));
}

// --- warps: called by all threads of the warp ---

template <class V>
SEQKERN_DEVICE V shuffle_xor(V value, int lanes) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
}
template <class V>
SEQKERN_DEVICE V shuffle(V value, int lane) {
  return __shfl_sync(0xFFFFFFFFu, value, lane);
}
SEQKERN_DEVICE bool any_of_warp(bool value) { return __any_sync(0xFFFFFFFFu, value); }
SEQKERN_DEVICE bool all_of_warp(bool value) { return __all_sync(0xFFFFFFFFu, value); }
// The values of all lanes, a bit each.
SEQKERN_DEVICE uint32_t ballot(bool value) { return __ballot_sync(0xFFFFFFFFu, value); }
SEQKERN_DEVICE int count_bits(uint32_t bits) { return __popc(bits); }
SEQKERN_DEVICE int lowest_bit(uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }  // -1: none
SEQKERN_DEVICE int highest_bit(uint32_t bits) { return 31 - __clz(static_cast<int>(bits)); }

// --- shared memory of the block, and of the blocks of its cluster ---

// Of the size that the launch asked for, aligned to 128 bytes; not initialised.
SEQKERN_DEVICE unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

SEQKERN_DEVICE int cluster_rank() {
  unsigned rank = 0;
  SEQKERN_WITH_CLUSTERS(asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank)));
  return static_cast<int>(rank);
}
SEQKERN_DEVICE int cluster_size() {
  unsigned size = 1;
  SEQKERN_WITH_CLUSTERS(asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size)));
  return static_cast<int>(size);
}
// The same place in the shared memory of another block of the cluster.
template <class V>
SEQKERN_DEVICE V* in_block(int rank, V* shared) {
  V* there = shared;
  SEQKERN_WITH_CLUSTERS(asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank)));
  return there;
}

// --- memory that other blocks write while the kernel runs ---

// 16 bytes. Elements are seen one by one, each of them whole, sooner or later.
struct alignas(16) Words {
  uint32_t at[4];
};
SEQKERN_DEVICE Words load_coherent(const void* p) {
  Words words;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.at[0]), "=r"(words.at[1]), "=r"(words.at[2]), "=r"(words.at[3])
               : "l"(p)
               : "memory");
  return words;
}
SEQKERN_DEVICE void store_coherent(uint16_t* p, uint16_t bits) {
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;" ::"l"(p), "h"(bits) : "memory");
}
SEQKERN_DEVICE void store_coherent(uint32_t* p, uint32_t bits) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(bits) : "memory");
}

// Adds to four numbers, aligned to 16 bytes, or to one. Elements are added to one by one, none is lost.
SEQKERN_DEVICE void add_coherent(float* p, const float (&values)[4]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(values[0]), "f"(values[1]),
               "f"(values[2]), "f"(values[3])
               : "memory");
#else
  for (int i = 0; i < 4; ++i) atomicAdd(p + i, values[i]);
#endif
}
SEQKERN_DEVICE void add_coherent(double* p, double value) { atomicAdd(p, value); }

// Adds, and returns what was there.
SEQKERN_DEVICE int atomic_add(int* p, int value) { return atomicAdd(p, value); }

// Waits until done(), which other blocks bring about. All blocks run at once: in cooperative launches only.
template <class Done>
SEQKERN_DEVICE void spin_until(const Done& done) {
  while (!done()) {
  }
}

// --- asynchronous copies from global to shared memory, of 16 bytes aligned to them ---

SEQKERN_DEVICE void copy_async(void* shared, const void* global) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
// Closes a group of copies; waits until all but the newest `pending` groups of this thread are there.
SEQKERN_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>
SEQKERN_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// --- matrix units ---

// The type of float32 numbers of which the matrix units read 10 bits of mantissa.
struct Tf32 {};
SEQKERN_DEVICE uint32_t round_to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// d [16, 8] += a [16, k] b [k, 8] by a warp, where k elements are 32 bytes (8 words): 16 of half types, 8 of Tf32. Of lane l,
// with g = l / 4 and w = l % 4:
//   a: words w and w + 4 of row g are a[0] and a[2], of row g + 8 a[1] and a[3]
//   b: words w and w + 4 of column g
//   d: columns 2 w and 2 w + 1 of row g are d[0] and d[1], of row g + 8 d[2] and d[3]
SEQKERN_DEVICE void multiply_add(BFloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
SEQKERN_DEVICE void multiply_add(Float16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
SEQKERN_DEVICE void multiply_add(Tf32, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// --- numbers in memory ---

SEQKERN_DEVICE float to_sum(float x) { return x; }
SEQKERN_DEVICE double to_sum(double x) { return x; }
SEQKERN_DEVICE float to_sum(BFloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
SEQKERN_DEVICE float to_sum(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }

// Rounds to nearest, ties to even.
SEQKERN_DEVICE void from_sum(float x, float& y) { y = x; }
SEQKERN_DEVICE void from_sum(double x, double& y) { y = x; }
SEQKERN_DEVICE void from_sum(float x, BFloat16& y) { y.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
SEQKERN_DEVICE void from_sum(float x, Float16& y) { y.bits = __half_as_ushort(__float2half_rn(x)); }

// a b, rounded, whatever is done with it: never a part of a fused multiply-add.
SEQKERN_DEVICE float rounded_product(float a, float b) { return __fmul_rn(a, b); }
SEQKERN_DEVICE double rounded_product(double a, double b) { return __dmul_rn(a, b); }

// exp(x) with a relative error of 2^-22 + |x| 2^-24, of a few instructions: for what is rounded to a half type.
SEQKERN_DEVICE float fast_exp(float x) { return __expf(x); }

template <class V, int n>
struct Vector {
  V at[n];
};

template <class T, int n>
struct alignas(sizeof(T) * n) Packed {
  T at[n];
};

// n elements as they lie in memory; p is aligned to n elements.
template <int n, class T>
SEQKERN_DEVICE Packed<T, n> load_packed(const T* p) {
  Packed<T, n> packed;
  if constexpr (sizeof(packed) == kVectorBytes) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p);
    memcpy(&packed, &raw, sizeof(raw));
  } else {
    packed = *reinterpret_cast<const Packed<T, n>*>(p);
  }
  return packed;
}
template <class T, int n>
SEQKERN_DEVICE void store_packed(T* p, const Packed<T, n>& packed) {
  if constexpr (sizeof(packed) == kVectorBytes) {
    uint4 raw;
    memcpy(&raw, &packed, sizeof(raw));
    *reinterpret_cast<uint4*>(p) = raw;
  } else {
    *reinterpret_cast<Packed<T, n>*>(p) = packed;
  }
}
template <class T, int n>
SEQKERN_DEVICE Vector<Sum<T>, n> unpack(const Packed<T, n>& packed) {
  Vector<Sum<T>, n> values;
  for (int i = 0; i < n; ++i) values.at[i] = to_sum(packed.at[i]);
  return values;
}

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
  return unpack(packed);
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

// How a kernel is launched. Blocks of a cooperative launch, and of one cluster, run at once; clusters lie along x.
struct Launch {
  Grid grid;
  int threads;
  cudaStream_t stream;
  size_t shared_bytes = 0;  // dynamic shared memory of a block
  int cluster = 1;          // blocks of a cluster
  bool cooperative = false;
};

namespace detail {

// Calls body(cudaLaunchConfig_t) for a kernel made ready for the launch.
template <class Params, class Body>
cudaError_t with_configuration(void (*kernel)(Params), const Launch& how, const Body& body) {
  constexpr int64_t kMaxX = 0x7FFFFFFF, kMaxY = 0xFFFF;
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = dim3(static_cast<unsigned>(how.grid.x < kMaxX ? how.grid.x : kMaxX),
                               static_cast<unsigned>(how.grid.y < kMaxY ? how.grid.y : kMaxY));
  configuration.blockDim = dim3(static_cast<unsigned>(how.threads));
  configuration.dynamicSmemBytes = how.shared_bytes;
  configuration.stream = how.stream;
  cudaLaunchAttribute attributes[2];
  configuration.attrs = attributes;
  if (how.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[configuration.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = static_cast<unsigned>(how.cluster);
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  }
  if (how.cooperative) {
    cudaLaunchAttribute& cooperative = attributes[configuration.numAttrs++];
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
  }
  constexpr size_t kSharedBytesUnasked = 48 << 10;
  constexpr int kPortableCluster = 8;
  const auto function = reinterpret_cast<const void*>(kernel);
  if (how.shared_bytes > kSharedBytesUnasked) {
    const cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(how.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  if (how.cluster > kPortableCluster) {
    const cudaError_t error = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  return body(configuration);
}

}  // namespace detail

template <class Params>
cudaError_t launch(void (*kernel)(Params), const Launch& how, const Params& params) {
  const cudaError_t error = detail::with_configuration(
      kernel, how, [&](const cudaLaunchConfig_t& c) { return cudaLaunchKernelEx(&c, kernel, params); });
  return error == cudaSuccess ? cudaGetLastError() : error;
}

// How many blocks of such a launch can run at once; 0 if none can.
template <class Params>
cudaError_t resident_blocks(void (*kernel)(Params), const Launch& how, int64_t& blocks) {
  DeviceLimits limits;
  cudaError_t error = device_limits(limits);
  blocks = 0;
  if (error != cudaSuccess || how.shared_bytes > static_cast<size_t>(limits.shared_bytes)) return error;
  if (how.cluster > 1 && limits.capability < 90) return error;
  return detail::with_configuration(kernel, how, [&](const cudaLaunchConfig_t& c) {
    int count = 0;
    if (how.cluster > 1) {
      error = cudaOccupancyMaxActiveClusters(&count, kernel, &c);
      blocks = static_cast<int64_t>(count) * how.cluster;
    } else {
      error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, how.threads, how.shared_bytes);
      blocks = static_cast<int64_t>(count) * limits.multiprocessors;
    }
    return error;
  });
}

}  // namespace seqkern::cuda
