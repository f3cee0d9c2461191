// cuda/device.cuh for the host, where the executor (executor.h) runs kernels. This folder comes before csrc in the include path.
//
// The arguments `where` that primitives have here are for reports alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/limits.h"
#include "cuda_runtime_api.h"
#include "executor.h"
#include "math/types.h"

// Inlined always, lest the linker take a copy from a source compiled without the checks.
#define SEQKERN_DEVICE inline __attribute__((always_inline))
#define SEQKERN_KERNEL(...) void
#define SEQKERN_INLINE __attribute__((always_inline))
#define SEQKERN_CONSTANT const
#define SEQKERN_UNROLL(turns)
#define SEQKERN_SHARED(Type, name, count) \
  static char name##_key;                 \
  Type(&name)[count] = *static_cast<Type(*)[count]>(seqkern::host::shared_array(&name##_key, sizeof(Type[count])))

namespace seqkern::cuda {

using host::Where;
using math::BFloat16;
using math::Float16;
using math::Sum;

// --- places of threads ---

constexpr int kWarpSize = 32;
constexpr bool kHasClusters = true;

int64_t thread_index();
int64_t block_size();
int64_t block_index();
int64_t block_count();
int64_t block_index_y();
int64_t block_count_y();
int lane_index();
int warp_index();

// --- barriers ---

void sync_warp(Where where = Where::here());
void sync_block(Where where = Where::here());
void sync_grid(Where where = Where::here());
void sync_cluster(Where where = Where::here());

// --- warps ---

template <class V>
SEQKERN_DEVICE V shuffle(V value, int lane, Where where = Where::here()) {
  static_assert(sizeof(V) == 4 || sizeof(V) == 8);
  host::shuffle(&value, sizeof(V), lane, where);
  return value;
}
template <class V>
SEQKERN_DEVICE V shuffle_xor(V value, int lanes, Where where = Where::here()) {
  return shuffle(value, lane_index() ^ lanes, where);
}
bool any_of_warp(bool value, Where where = Where::here());
bool all_of_warp(bool value, Where where = Where::here());
uint32_t ballot(bool value, Where where = Where::here());
SEQKERN_DEVICE int count_bits(uint32_t bits) { return __builtin_popcount(bits); }
SEQKERN_DEVICE int lowest_bit(uint32_t bits) { return __builtin_ffs(static_cast<int>(bits)) - 1; }
SEQKERN_DEVICE int highest_bit(uint32_t bits) { return bits == 0 ? -1 : 31 - __builtin_clz(bits); }

// --- shared memory ---

unsigned char* dynamic_shared();
int cluster_rank();
int cluster_size();

template <class V>
SEQKERN_DEVICE V* in_block(int rank, V* shared, Where where = Where::here()) {
  return static_cast<V*>(host::in_block(rank, const_cast<std::remove_const_t<V>*>(shared), where));
}

// --- memory that other blocks write while the kernel runs ---

struct alignas(16) Words {
  uint32_t at[4];
};
Words load_coherent(const void* p, Where where = Where::here());
void store_coherent(uint16_t* p, uint16_t bits, Where where = Where::here());
void store_coherent(uint32_t* p, uint32_t bits, Where where = Where::here());
void add_coherent(float* p, const float (&values)[4], Where where = Where::here());
void add_coherent(double* p, double value, Where where = Where::here());
int atomic_add(int* p, int value, Where where = Where::here());

template <class Done>
SEQKERN_DEVICE void spin_until(const Done& done, Where where = Where::here()) {
  host::begin_poll(where);
  while (!done()) host::poll_again();
  host::end_poll();
}

// --- asynchronous copies: they are done when they are waited for, and not before ---

void copy_async(void* shared, const void* global, Where where = Where::here());
void commit_copies();
template <int pending>
SEQKERN_DEVICE void wait_for_copies() {
  host::wait_for_copies(pending);
}

// --- numbers ---

namespace detail {

SEQKERN_DEVICE float as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
SEQKERN_DEVICE uint32_t as_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

}  // namespace detail

SEQKERN_DEVICE float to_sum(float x) { return x; }
SEQKERN_DEVICE double to_sum(double x) { return x; }
SEQKERN_DEVICE float to_sum(BFloat16 x) { return detail::as_float(static_cast<uint32_t>(x.bits) << 16); }
SEQKERN_DEVICE float to_sum(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, digits = static_cast<uint32_t>(x.bits & 0x7FFF) << 13;
  if (digits >= 0x7C00u << 13) return detail::as_float(sign | 0x70000000 | digits);  // infinities and NaN
  return detail::as_float(sign | detail::as_bits(detail::as_float(digits) * 0x1p112f));
}

SEQKERN_DEVICE void from_sum(float x, float& y) { y = x; }
SEQKERN_DEVICE void from_sum(double x, double& y) { y = x; }
SEQKERN_DEVICE void from_sum(float x, BFloat16& y) {
  const uint32_t bits = detail::as_bits(x);
  y.bits = static_cast<uint16_t>(std::isnan(x) ? 0x7FFF : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
SEQKERN_DEVICE void from_sum(float x, Float16& y) {
  const uint32_t bits = detail::as_bits(x), size = bits & 0x7FFFFFFF;
  const auto sign = static_cast<uint32_t>(bits >> 16 & 0x8000);
  uint32_t rounded;
  if (std::isnan(x))
    rounded = 0x7FFF;
  else if (size >= 0x477FF000)  // 65520, half way to what would follow the largest number
    rounded = sign | 0x7C00;
  else if (size < 0x38800000)  // 2^-14: steps of 2^-24, which are those of floats from 1/2 to 1
    rounded = sign | (detail::as_bits(detail::as_float(size) + 0.5f) - 0x3F000000);
  else
    rounded = sign | ((size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13);
  y.bits = static_cast<uint16_t>(rounded);
}

// --- matrix units ---

struct Tf32 {};
SEQKERN_DEVICE uint32_t round_to_tf32(float x) {
  const uint32_t bits = detail::as_bits(x);
  return std::isfinite(x) ? (bits + 0x1000) & ~0x1FFFu : bits;
}

namespace detail {

template <class T>
constexpr int kRowSize = 16;
template <>
inline constexpr int kRowSize<Tf32> = 8;

template <class T>
float element(const uint32_t (&words)[8], int i) {
  if constexpr (std::is_same_v<T, Tf32>)
    return as_float(words[i] & ~0x1FFFu);
  else
    return to_sum(T{static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2)))});
}

}  // namespace detail

template <class T>
SEQKERN_DEVICE void multiply_add(T, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where = Where::here()) {
  host::multiply_add(d, a, b, detail::kRowSize<T>, detail::element<T>, where);
}

// --- numbers in memory ---

// Compilers make no fused multiply-adds for the x86-64 that the tests are compiled for.
template <class V>
SEQKERN_DEVICE V rounded_product(V a, V b) {
  return a * b;
}
SEQKERN_DEVICE float fast_exp(float x) { return std::exp(x); }

template <class V, int n>
struct Vector {
  V at[n];
};

template <class T, int n>
struct alignas(sizeof(T) * n) Packed {
  T at[n];
};

template <int n, class T>
SEQKERN_DEVICE Packed<T, n> load_packed(const T* p, Where where = Where::here()) {
  host::check_alignment(p, sizeof(Packed<T, n>), where);
  Packed<T, n> packed;
  for (int i = 0; i < n; ++i) packed.at[i] = p[i];
  return packed;
}
template <class T, int n>
SEQKERN_DEVICE void store_packed(T* p, const Packed<T, n>& packed, Where where = Where::here()) {
  host::check_alignment(p, sizeof(Packed<T, n>), where);
  for (int i = 0; i < n; ++i) p[i] = packed.at[i];
}
template <class T, int n>
SEQKERN_DEVICE Vector<Sum<T>, n> unpack(const Packed<T, n>& packed) {
  Vector<Sum<T>, n> values;
  for (int i = 0; i < n; ++i) values.at[i] = to_sum(packed.at[i]);
  return values;
}

template <int n, class T>
SEQKERN_DEVICE Vector<Sum<T>, n> load(const T* p, Where where = Where::here()) {
  host::check_alignment(p, sizeof(Packed<T, n>), where);
  Vector<Sum<T>, n> values;
  for (int i = 0; i < n; ++i) values.at[i] = to_sum(p[i]);
  return values;
}

template <class T, int n>
SEQKERN_DEVICE void store_streaming(T* p, const Vector<Sum<T>, n>& values, Where where = Where::here()) {
  host::check_alignment(p, sizeof(Packed<T, n>), where);
  for (int i = 0; i < n; ++i) from_sum(values.at[i], p[i]);
}

// --- launches ---

struct Grid {
  int64_t x, y;
};

struct Launch {
  Grid grid;
  int threads;
  cudaStream_t stream;
  size_t shared_bytes = 0;
  int cluster = 1;
  bool cooperative = false;
};

namespace detail {

inline host::Shape shape_of(const Launch& how) {
  constexpr int64_t kMaxX = 0x7FFFFFFF, kMaxY = 0xFFFF;
  return {how.grid.x < kMaxX ? how.grid.x : kMaxX,
          how.grid.y < kMaxY ? how.grid.y : kMaxY,
          how.threads,
          how.shared_bytes,
          how.cluster,
          how.cooperative};
}

}  // namespace detail

template <class Params>
cudaError_t launch(void (*kernel)(Params), const Launch& how, const Params& params) {
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 4096, "what a device takes");
  struct Call {
    void (*kernel)(Params);
    Params params;
  };
  const Call call{kernel, params};
  const auto run = [](const void* argument) {
    const auto& of = *static_cast<const Call*>(argument);
    of.kernel(of.params);
  };
  return host::execute(detail::shape_of(how), run, &call, sizeof(call));
}

template <class Params>
cudaError_t resident_blocks(void (*)(Params), const Launch& how, int64_t& blocks) {
  return host::count_resident_blocks(detail::shape_of(how), blocks);
}

}  // namespace seqkern::cuda
