// What training word vectors does with a vector h and up to kRowGroup rows of the output matrix: their dots, and the changes of
// both.
#pragma once

#include "cpu/simd.h"
#include "math/activations.h"

namespace seqkern::cpu::SEQKERN_ISA {

constexpr int kRowGroup = kLanes<float> < 8 ? kLanes<float> : 8;

// The sums of the lanes of each vector, in the first lanes, and 0 in the others up to kRowGroup. Pairs of vectors are
// shuffled into one and added, until one vector is left.
template <int R>
SEQKERN_INLINE Float reduce_rows(const Float (&rows)[R]) {
  constexpr int lanes = kLanes<float>;
  Float sums[kRowGroup];
  for (int r = 0; r < kRowGroup; ++r) sums[r] = r < R ? rows[r < R ? r : 0] : Float{};
#pragma GCC unroll 3
  for (int half = kRowGroup / 2; half > 0; half /= 2)
#pragma GCC unroll 4
    for (int r = 0; r < half; ++r) {
      Float low, high;
      zip<float>(sums[r], sums[r + half], low, high, std::make_index_sequence<lanes>{});
      sums[r] = low + high;
    }
#if SEQKERN_VECTOR_BYTES == 64
  return sums[0] + (Float)_mm512_maskz_shuffle_f32x4(0xFFFF, (__m512)sums[0], (__m512)sums[0], 0x4E);
#else
  return sums[0];
#endif
}

// g = rate (label - sigmoid(x)) and the loss -log sigmoid((2 label - 1) x), for labels of 0 and 1, lane by lane.
SEQKERN_INLINE Float logistic_step(Float x, Float label, Float rate, Float& loss) {
  const Float magnitude = (Float)((Int)x & INT32_MAX);
  const Float e = math::exp_value(-magnitude), inverse = math::reciprocal(1.0f + e);
  const Float sigmoid = x >= 0.0f ? inverse : e * inverse;
  // log(1 + e) = 2 artanh(s), s = e / (2 + e) <= 1/3; the series to s^13 is within 1e-8.
  const Float s = e * math::reciprocal(2.0f + e), s2 = s * s;
  Float series = s2 * (1.0f / 13) + 1.0f / 11;
  series = series * s2 + 1.0f / 9;
  series = series * s2 + 1.0f / 7;
  series = series * s2 + 1.0f / 5;
  series = series * s2 + 1.0f / 3;
  const Float log_term = 2.0f * (s + s * s2 * series);
  loss = max(x, Float{}) - label * x + log_term;
  return rate * (label - sigmoid);
}

// Calls body(std::integral_constant<int, count>()), for a count from 1 to kRowGroup.
template <int R = kRowGroup, class Body>
SEQKERN_INLINE void with_count(int count, const Body& body) {
  if constexpr (R > 0) {
    if (count == R) return body(std::integral_constant<int, R>());
    with_count<R - 1>(count, body);
  }
}

// The dots of h with R rows, in the first lanes. n: floats of a row, a multiple of the lanes.
template <int R>
SEQKERN_INLINE Float row_dots(const float* h, float* const* rows, int64_t n) {
  Float sums[R];
  const Float head = load(h);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sums[r] = head * load(rows[r]);
  for (int64_t i = kLanes<float>; i < n; i += kLanes<float>) {
    const Float x = load(h + i);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[r] += x * load(rows[r] + i);
  }
  return reduce_rows<R>(sums);
}

// Without it, the compiler reads a vector from memory for each of its uses: skip-gram was measured to be 7 to 10 % slower.
SEQKERN_INLINE void keep_in_register(Float& x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
}

// Of R rows, one after the other: to = from + sum_r g_r row_r, and row_r += g_r h. from may be null, for 0; to may be h. A row
// that is there twice is found changed by then.
template <int R>
SEQKERN_INLINE void change_rows(const float* h, float* const* rows, const float* g, int64_t n, const float* from, float* to) {
  float* at[R];  // not in memory, where the compiler would fear that they change
  Float factors[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    at[r] = rows[r];
    factors[r] = broadcast(g[r]);
  }
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    const Float x = load(h + i);
    Float sum = from == nullptr ? Float{} : load(from + i);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      Float row = load(at[r] + i);
      keep_in_register(row);
      sum += factors[r] * row;
      store(at[r] + i, row + factors[r] * x);
    }
    store(to + i, sum);
  }
}

// to = sum_r g_r row_r.
inline void sum_rows(float* const* rows, const float* g, int64_t count, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    Float sum{};
    for (int64_t r = 0; r < count; ++r) sum += g[r] * load(rows[r] + i);
    store(to + i, sum);
  }
}

// Calls body(std::integral_constant<int, c>(), i) for the columns [i, i + c lanes) of a row: as many at once as are kept in
// registers.
template <class Body>
SEQKERN_INLINE void for_columns(int64_t n, const Body& body) {
  constexpr int64_t block = kRowGroup * kLanes<float>;
  int64_t i = 0;
  for (; i + block <= n; i += block) body(std::integral_constant<int, kRowGroup>(), i);
  with_count<kRowGroup - 1>(static_cast<int>((n - i) / kLanes<float>), [&](auto columns) { body(columns, i); });
}

// to = scale sum_r row_r.
SEQKERN_INLINE void sum_inputs(float* const* rows, int64_t count, float scale, int64_t n, float* to) {
  for_columns(n, [&](auto columns, int64_t i) {
    Float sums[columns];
    for (int c = 0; c < columns; ++c) sums[c] = load(rows[0] + i + c * kLanes<float>);
    for (int64_t r = 1; r < count; ++r) {
      const float* const row = rows[r] + i;
      for (int c = 0; c < columns; ++c) sums[c] += load(row + c * kLanes<float>);
    }
    for (int c = 0; c < columns; ++c) store(to + i + c * kLanes<float>, sums[c] * scale);
  });
}

// row_r += factor x, one row after the other.
SEQKERN_INLINE void change_inputs(float* const* rows, int64_t count, const float* x, float factor, int64_t n) {
  for_columns(n, [&](auto columns, int64_t i) {
    Float changes[columns];
    for (int c = 0; c < columns; ++c) changes[c] = factor * load(x + i + c * kLanes<float>);
    for (int64_t r = 0; r < count; ++r) {
      float* const row = rows[r] + i;
      for (int c = 0; c < columns; ++c) store(row + c * kLanes<float>, load(row + c * kLanes<float>) + changes[c]);
    }
  });
}

}  // namespace seqkern::cpu::SEQKERN_ISA
