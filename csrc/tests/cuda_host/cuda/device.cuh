// cuda/device.cuh for the host: kernels run with one thread a block, block after block.
//
// That executes a kernel's arithmetic, indices, tails and conversions with a debugger and a sanitiser at hand; what needs several
// threads (reductions, barriers) it does not show. This folder comes before csrc in the include path of a test.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_runtime_api.h"
#include "math/types.h"

#define SEQKERN_DEVICE inline
#define SEQKERN_KERNEL(max_threads) void
#define SEQKERN_UNROLL(turns)

namespace seqkern::cuda {

using math::Float16;
using math::Sum;

struct Grid {
  int64_t x, y;
};

// Where the running block is.
inline thread_local struct {
  Grid index, count;
} place;

constexpr int kWarpSize = 32;

inline int64_t thread_index() { return 0; }
inline int64_t block_size() { return 1; }
inline int64_t block_index() { return place.index.x; }
inline int64_t block_count() { return place.count.x; }
inline int64_t block_index_y() { return place.index.y; }
inline int64_t block_count_y() { return place.count.y; }

template <class V, class Combine>
V block_reduce(V value, V identity, const Combine& combine) {
  return combine(value, identity);
}

inline float to_sum(float x) { return x; }
inline double to_sum(double x) { return x; }
inline void from_sum(float x, float& y) { y = x; }
inline void from_sum(double x, double& y) { y = x; }

inline float to_sum(math::BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof(y));
  return y;
}

inline void from_sum(float x, math::BFloat16& y) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  y.bits = static_cast<uint16_t>(std::isnan(x) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// The value of a float16, from its sign, exponent and mantissa.
inline float to_sum(Float16 x) {
  const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  const float size = exponent == 31  ? (mantissa ? NAN : INFINITY)
                     : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                     : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return x.bits >> 15 ? -size : size;
}

inline void from_sum(float x, Float16& y) {
  const auto sign = static_cast<uint16_t>(std::signbit(x) ? 0x8000 : 0);
  int exponent = 0;
  std::frexp(x, &exponent);
  const int step = std::fabs(x) < 0x1p-14f ? -24 : exponent - 11;  // the last digit counts 2^step
  const float digits = std::nearbyint(std::ldexp(std::fabs(x), -step));
  y.bits = std::isnan(x)                          ? uint16_t{0x7FFF}
           : std::ldexp(digits, step) >= 65536.0f ? static_cast<uint16_t>(sign | 0x7C00)
                                                  : static_cast<uint16_t>(sign | ((step + 24) * 1024 + static_cast<int>(digits)));
}

constexpr int kVectorBytes = 16;

template <class V, int n>
struct Vector {
  V at[n];
};

// On a device an access that is not aligned to its size faults.
template <int n, class T>
void check_alignment(const T* p) {
  if (reinterpret_cast<uintptr_t>(p) % (n * sizeof(T)) == 0) return;
  std::fprintf(stderr, "a vector of %d elements of %zu bytes is accessed at %p\n", n, sizeof(T), static_cast<const void*>(p));
  std::abort();
}

template <int n, class T>
Vector<Sum<T>, n> load(const T* p) {
  check_alignment<n>(p);
  Vector<Sum<T>, n> values;
  for (int i = 0; i < n; ++i) values.at[i] = to_sum(p[i]);
  return values;
}

template <class T, int n>
void store_streaming(T* p, const Vector<Sum<T>, n>& values) {
  check_alignment<n>(p);
  for (int i = 0; i < n; ++i) from_sum(values.at[i], p[i]);
}

template <class Params>
cudaError_t launch(void (*kernel)(Params), Grid grid, int, cudaStream_t, const Params& params) {
  place.count = grid;
  for (place.index.y = 0; place.index.y < grid.y; ++place.index.y)
    for (place.index.x = 0; place.index.x < grid.x; ++place.index.x) kernel(params);
  return cudaSuccess;
}

}  // namespace seqkern::cuda
