// SIMD vectors of float and double by the compiler's vector extensions, and of bfloat16 as they come from memory.
//
// Included by kernels_<isa>.cpp after the target pragma; everything lives in the namespace SEQKERN_ISA of that file, so the
// copies never mix. SEQKERN_VECTOR_BYTES tells the instruction sets apart, and SEQKERN_BFLOAT16_DOT the dot product of bfloat16
// pairs (a target pragma does not define __AVX512F__ and the like before GCC 13). Arithmetic, comparison and broadcast of a
// scalar come from the language; this header adds unaligned and partial memory access, conversion, reductions, transposition, and
// exp, tanh and log1p.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "math/primitives.h"
#include "math/types.h"

namespace seqkern::cpu::SEQKERN_ISA {

constexpr int kVectorBytes = SEQKERN_VECTOR_BYTES;

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

using Float = Vec<float>;
using Double = Vec<double>;
using Int = Vec<int32_t>;

#define SEQKERN_INLINE inline __attribute__((always_inline))

template <class T>
SEQKERN_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

template <class T>
SEQKERN_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
SEQKERN_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof(v));
}

// The first n lanes (0 < n <= lanes); the rest reads as zero and is not written. Memory past the n values is not touched.
template <class T>
SEQKERN_INLINE Vec<T> load_partial(const T* p, int n) {
  Vec<T> v{};
  if (n == kLanes<T>) return load(p);
#if SEQKERN_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    v = (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
  else
    v = (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), p);
#else
  std::memcpy(&v, p, sizeof(T) * static_cast<size_t>(n));
#endif
  return v;
}

template <class T>
SEQKERN_INLINE void store_partial(T* p, Vec<T> v, int n) {
  if (n == kLanes<T>) return store(p, v);
#if SEQKERN_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
  else
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1), (__m512d)v);
#else
  std::memcpy(p, &v, sizeof(T) * static_cast<size_t>(n));
#endif
}

// Values of 16 bits, as many as a vector has float32 lanes, and the lanes as integers.
typedef uint16_t Half16 __attribute__((vector_size(kVectorBytes / 2)));
typedef uint32_t Word32 __attribute__((vector_size(kVectorBytes)));

// H: a type of 16 bits.
template <class H>
SEQKERN_INLINE Half16 load_half(const H* p, int n) {
  Half16 v{};
  if (n == kLanes<float>)
    std::memcpy(&v, p, sizeof(v));
  else
#if SEQKERN_VECTOR_BYTES == 64
    v = (Half16)_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), p);
#else
    std::memcpy(&v, p, sizeof(uint16_t) * static_cast<size_t>(n));
#endif
  return v;
}

template <class H>
SEQKERN_INLINE void store_half(H* p, Half16 v, int n) {
  if (n == kLanes<float>)
    std::memcpy(p, &v, sizeof(v));
  else
#if SEQKERN_VECTOR_BYTES == 64
    _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1), (__m256i)v);
#else
    std::memcpy(p, &v, sizeof(uint16_t) * static_cast<size_t>(n));
#endif
}

// Two bfloat16 values, the first in the lower half.
using Pair = int32_t;

SEQKERN_INLINE Pair load_pair(const math::BFloat16* p) {
  Pair pair;
  std::memcpy(&pair, p, sizeof(pair));
  return pair;
}

// The first n of 2 * lanes values; the rest reads as zero.
SEQKERN_INLINE Vec<Pair> load_pairs(const math::BFloat16* p, int n) {
  Vec<Pair> v{};
  if (n == 2 * kLanes<Pair>)
    std::memcpy(&v, p, sizeof(v));
  else
#if SEQKERN_VECTOR_BYTES == 64
    v = (Vec<Pair>)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), p);
#else
    std::memcpy(&v, p, sizeof(uint16_t) * static_cast<size_t>(n));
#endif
  return v;
}

SEQKERN_INLINE Vec<Pair> make_pairs(Half16 first, Half16 second) {
  return (Vec<Pair>)(__builtin_convertvector(first, Word32) | __builtin_convertvector(second, Word32) << 16);
}

#if SEQKERN_BFLOAT16_DOT
// sum + a.first * b.first + a.second * b.second. Denormal values count as zero.
SEQKERN_INLINE Float dot_pairs(Float sum, Vec<Pair> a, Vec<Pair> b) {
  return (Float)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
#endif

// The first n values (0 < n <= lanes of Sum<T>) of tensors of any type, in the type they are summed in; the rest as in
// load_partial and store_partial.
template <class T>
SEQKERN_INLINE Vec<math::Sum<T>> load_sum(const T* p, int n) {
  return load_partial(p, n);
}

template <class T>
SEQKERN_INLINE void store_sum(T* p, Vec<math::Sum<T>> v, int n) {
  store_partial(p, v, n);
}

SEQKERN_INLINE Float load_sum(const math::BFloat16* p, int n) {
  return (Float)(__builtin_convertvector(load_half(p, n), Word32) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
SEQKERN_INLINE void store_sum(math::BFloat16* p, Float v, int n) {
  const Word32 bits = (Word32)v;
  Word32 rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  rounded = v == v ? rounded : (bits >> 16) | 0x40;
  store_half(p, __builtin_convertvector(rounded, Half16), n);
}

#if SEQKERN_VECTOR_BYTES == 64
SEQKERN_INLINE Float load_sum(const math::Float16* p, int n) {
  return (Float)_mm512_maskz_cvtph_ps(0xFFFF, (__m256i)load_half(p, n));
}
SEQKERN_INLINE void store_sum(math::Float16* p, Float v, int n) {
  store_half(p, (Half16)_mm512_maskz_cvtps_ph(0xFFFF, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
}
#else
SEQKERN_INLINE Float load_sum(const math::Float16* p, int n) {
  const Word32 bits = __builtin_convertvector(load_half(p, n), Word32), magnitude = (bits & 0x7FFF) << 13;
  const Word32 finite = (Word32)((Float)magnitude * 0x1p112f);  // moves the exponent, and makes denormal numbers normal
  return (Float)(((bits & 0x7C00) == 0x7C00 ? magnitude | 0x7F800000 : finite) | (bits & 0x8000) << 16);
}
// Rounds to nearest, ties to even; NaN stays NaN.
SEQKERN_INLINE void store_sum(math::Float16* p, Float v, int n) {
  const Word32 bits = (Word32)v, magnitude = bits & 0x7FFFFFFF;
  const Word32 normal = (magnitude - (112u << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
  const Word32 denormal = (Word32)((Float)magnitude + 0.5f) - 0x3F000000;  // the sum's last bit is 2^-24
  Word32 rounded = magnitude < 0x38800000 ? denormal : normal;
  rounded = magnitude >= 0x47800000 ? Word32{} + 0x7C00 : rounded;
  rounded = v == v ? rounded : Word32{} + 0x7E00;
  store_half(p, __builtin_convertvector(rounded | (bits >> 16 & 0x8000), Half16), n);
}
#endif

// The greater and the lesser; b where one of them is NaN.
template <class V>
SEQKERN_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

template <class V>
SEQKERN_INLINE V min(V a, V b) {
  return a < b ? a : b;
}

#if SEQKERN_VECTOR_BYTES == 64
SEQKERN_INLINE Float max(Float a, Float b) { return (Float)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)b); }
SEQKERN_INLINE Float min(Float a, Float b) { return (Float)_mm512_maskz_min_ps(0xFFFF, (__m512)a, (__m512)b); }
#elif SEQKERN_VECTOR_BYTES == 32
SEQKERN_INLINE Float max(Float a, Float b) { return (Float)_mm256_max_ps((__m256)a, (__m256)b); }
SEQKERN_INLINE Float min(Float a, Float b) { return (Float)_mm256_min_ps((__m256)a, (__m256)b); }
#endif

// Sum and maximum of all lanes, in a fixed order.
template <class T>
SEQKERN_INLINE T reduce_sum(Vec<T> v) {
  T sum = 0;
  for (int i = 0; i < kLanes<T>; ++i) sum += v[i];
  return sum;
}

template <class T>
SEQKERN_INLINE T reduce_max(Vec<T> v) {
  T best = v[0];
  for (int i = 1; i < kLanes<T>; ++i) best = v[i] > best ? v[i] : best;
  return best;
}

// The lanes of a and b by turns: the first halves of both in low, the second halves in high.
template <class T, size_t... I>
SEQKERN_INLINE void zip(Vec<T> a, Vec<T> b, Vec<T>& low, Vec<T>& high, std::index_sequence<I...>) {
  using Mask = Vec<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>>;
  constexpr int n = sizeof...(I);
  low = __builtin_shuffle(a, b, Mask{(I % 2 ? n + I / 2 : I / 2)...});
  high = __builtin_shuffle(a, b, Mask{(I % 2 ? n + n / 2 + I / 2 : n / 2 + I / 2)...});
}

// Transposes a square of lanes x lanes values: log2(lanes) rounds of a perfect shuffle of the rows.
template <class T>
SEQKERN_INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int n = kLanes<T>;
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
    Vec<T> out[n];
#pragma GCC unroll 16
    for (int i = 0; i < n / 2; ++i) zip<T>(rows[i], rows[i + n / 2], out[2 * i], out[2 * i + 1], std::make_index_sequence<n>{});
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) rows[i] = out[i];
  }
}

}  // namespace seqkern::cpu::SEQKERN_ISA

// Vector overloads of math/primitives.h, in the namespace of the templates that call them. The vector types, and so the
// overloads, differ between vector widths.
namespace seqkern::math {

// exp(x) = 2^n (1 + q) with a whole n and |q| < 0.42, for |x| <= 110: x = n ln 2 + r, and a polynomial in r.
struct ExpParts {
  cpu::SEQKERN_ISA::Float n, q;
};

SEQKERN_INLINE ExpParts exp_parts(cpu::SEQKERN_ISA::Float x) {
  using namespace cpu::SEQKERN_ISA;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Float n = (x * 1.44269504088896341f + kRound) - kRound;
  Float r = x - n * 0.693145751953125f;
  r -= n * 1.42860677e-6f;
  Float p = 1.3981999e-3f + r * 1.9875691e-4f;
  p = p * r + 8.3334519e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 5.0e-1f;
  return {n, p * (r * r) + r};
}

// x * 2^n for a whole n.
SEQKERN_INLINE cpu::SEQKERN_ISA::Float scale(cpu::SEQKERN_ISA::Float x, cpu::SEQKERN_ISA::Float n) {
  using namespace cpu::SEQKERN_ISA;
#if SEQKERN_VECTOR_BYTES == 64
  return (Float)_mm512_maskz_scalef_ps(0xFFFF, (__m512)x, (__m512)n);
#else
  // In two factors, so that n may pass the exponent range of one.
  const Int whole = __builtin_convertvector(n, Int);
  const Int half = whole >> 1;
  const Float scale_a = (Float)((half + 127) << 23);
  const Float scale_b = (Float)((whole - half + 127) << 23);
  return x * scale_a * scale_b;
#endif
}

// Within 1 ulp of the exact value. Overflows to infinity, underflows to zero through the denormals, keeps NaN.
SEQKERN_INLINE cpu::SEQKERN_ISA::Float exp_value(cpu::SEQKERN_ISA::Float x) {
  using namespace cpu::SEQKERN_ISA;
  const ExpParts parts = exp_parts(min(broadcast(110.0f), max(broadcast(-110.0f), x)));
  return scale(parts.q + 1.0f, parts.n);
}

// 1 / x for x > 0; where a division is slow, an estimate and a step of Newton's method, within 2 ulp. Results below the normal
// numbers may be zero.
SEQKERN_INLINE cpu::SEQKERN_ISA::Float reciprocal(cpu::SEQKERN_ISA::Float x) {
  using namespace cpu::SEQKERN_ISA;
#if SEQKERN_VECTOR_BYTES == 64
  const Float estimate = (Float)_mm512_maskz_rcp14_ps(0xFFFF, (__m512)x);
  const Float refined = estimate + estimate * (1.0f - x * estimate);
  return x > 3e38f ? Float{} : refined;  // infinity times its estimate, zero, is NaN
#else
  return 1.0f / x;
#endif
}

// tanh(x) = e / (e + 2) with e = exp(2x) - 1 for x >= 0, and odd; within 2 ulp of the exact value. The quotient is corrected by
// what remains of e, (e - 2 y) - e y, in which e + 2 is not rounded.
SEQKERN_INLINE cpu::SEQKERN_ISA::Float tanh_value(cpu::SEQKERN_ISA::Float x) {
  using namespace cpu::SEQKERN_ISA;
  const Int sign = (Int)x & INT32_MIN;
  const Float magnitude = min(broadcast(10.0f), (Float)((Int)x ^ sign));  // tanh(10) rounds to 1
  const ExpParts parts = exp_parts(magnitude + magnitude);
  const Float power = scale(broadcast(1.0f), parts.n);
  const Float e = power * parts.q + (power - 1.0f);
#if SEQKERN_VECTOR_BYTES == 64
  const Float estimate = (Float)_mm512_maskz_rcp14_ps(0xFFFF, (__m512)(e + 2.0f));
#else
  const Float estimate = 1.0f / (e + 2.0f);
#endif
  const Float y = e * estimate;
  return (Float)((Int)(y + ((e - 2.0f * y) - e * y) * estimate) | sign);
}

// log(1 + x) for 0 <= x <= 1, within 2 ulp: 2 artanh(s) with s = x / (2 + x) <= 1/3, by its series, in which nothing cancels.
SEQKERN_INLINE cpu::SEQKERN_ISA::Float log1p_value(cpu::SEQKERN_ISA::Float x) {
  using namespace cpu::SEQKERN_ISA;
  const Float s = x / (2.0f + x), square = s * s;
  Float sum = square * (1.0f / 15) + 1.0f / 13;
  sum = sum * square + 1.0f / 11;
  sum = sum * square + 1.0f / 9;
  sum = sum * square + 1.0f / 7;
  sum = sum * square + 1.0f / 5;
  sum = sum * square + 1.0f / 3;
  const Float twice = s + s;
  return twice + twice * square * sum;
}

// float64 exists for gradient checks: exactness before speed.
SEQKERN_INLINE cpu::SEQKERN_ISA::Double exp_value(cpu::SEQKERN_ISA::Double x) {
  for (int i = 0; i < cpu::SEQKERN_ISA::kLanes<double>; ++i) x[i] = ::exp(x[i]);
  return x;
}

SEQKERN_INLINE cpu::SEQKERN_ISA::Double log1p_value(cpu::SEQKERN_ISA::Double x) {
  for (int i = 0; i < cpu::SEQKERN_ISA::kLanes<double>; ++i) x[i] = ::log1p(x[i]);
  return x;
}

SEQKERN_INLINE cpu::SEQKERN_ISA::Double reciprocal(cpu::SEQKERN_ISA::Double x) { return 1.0 / x; }

SEQKERN_INLINE cpu::SEQKERN_ISA::Double tanh_value(cpu::SEQKERN_ISA::Double x) {
  for (int i = 0; i < cpu::SEQKERN_ISA::kLanes<double>; ++i) x[i] = ::tanh(x[i]);
  return x;
}

}  // namespace seqkern::math
