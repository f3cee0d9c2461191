// Products of so few rows with a weight that packing it would cost more than they do: the weight is read as torch keeps it.
#pragma once

#include "cpu/pack.h"

namespace seqkern::cpu::SEQKERN_ISA {

// Whether weights that `batch` rows meet in each of `steps` products are better read in place. Packing costs about as much as
// reading them three times; afterwards a packed weight streams better than rows of it do, by more the larger it is.
inline bool few_rows(int64_t steps, int64_t batch) { return steps * batch <= 4 || (batch == 1 && steps <= 16); }

// a . w[i] for each of the first `rows` (1 to lanes) rows of w [rows, K].
template <class T>
SEQKERN_INLINE Vec<Sum<T>> dot_rows(const T* w, int64_t stride, int rows, const T* a, int64_t K) {
  constexpr int lanes = kLanes<Sum<T>>, step = lanes * kPackedRows<T>;
  const T* row[lanes];
  Vec<Sum<T>> sum[lanes]{};
  for (int i = 0; i < lanes; ++i) row[i] = w + std::min(i, rows - 1) * stride;
  for (int64_t k = 0; k < K; k += step) {
    const int n = static_cast<int>(std::min<int64_t>(step, K - k));
    if constexpr (kPackedRows<T> == 2) {
      const Vec<Pair> left = load_pairs(a + k, n);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) sum[i] = dot_pairs(sum[i], left, load_pairs(row[i] + k, n));
    } else {
      const Vec<T> left = load_partial(a + k, n);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) sum[i] += left * load_partial(row[i] + k, n);
    }
  }
  transpose<Sum<T>>(sum);
  Vec<Sum<T>> total = sum[0];
  for (int i = 1; i < lanes; ++i) total += sum[i];
  return total;
}

// y [count] (+)= d [K] times w [K, count].
template <class T>
void weighted_rows(const T* d, int64_t K, const T* w, int64_t stride, int64_t count, bool accumulate, Sum<T>* y) {
  using S = Sum<T>;
  constexpr int lanes = kLanes<S>, vectors = 2 * kPanelVectors;
  for (int64_t j = 0; j < count; j += vectors * lanes) {
    const int present = static_cast<int>(std::min<int64_t>(vectors, (count - j + lanes - 1) / lanes));
    const int last = static_cast<int>(std::min<int64_t>(lanes, count - j - (present - 1) * lanes));
    const auto sweep = [&](auto whole) {
      constexpr int most = vectors;
      const int used = whole ? most : present;
      Vec<S> sum[most];
      for (int v = 0; v < used; ++v)
        sum[v] = accumulate ? load_partial(y + j + v * lanes, v == present - 1 ? last : lanes) : Vec<S>{};
      for (int64_t k = 0; k < K; ++k) {
        const Vec<S> weight = broadcast(load_sum(d + k, 1)[0]);
        const T* const row = w + k * stride + j;
#pragma GCC unroll 8
        for (int v = 0; v < used; ++v) sum[v] += weight * load_sum(row + v * lanes, whole || v < present - 1 ? lanes : last);
      }
      for (int v = 0; v < used; ++v) store_partial(y + j + v * lanes, sum[v], v == present - 1 ? last : lanes);
    };
    if (present == vectors && last == lanes)
      sweep(std::true_type{});
    else
      sweep(std::false_type{});
  }
}

}  // namespace seqkern::cpu::SEQKERN_ISA
