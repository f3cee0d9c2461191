// The ground the CPU kernels stand on: exp and tanh of vectors, conversion, packing, products and working memory, with the
// vectors of the instruction set that test_cpu_gemm*.cpp set. SEQKERN_ISA is `tested`: a copy apart from the library's.
#pragma once

#include "cpu/gemm.h"

using namespace seqkern::cpu;
using namespace seqkern::cpu::tested;
using seqkern::math::BFloat16;

// Error in units of the last place of the exact result.
inline double ulps(float found, double exact) {
  const float nearest = static_cast<float>(exact);
  if (std::isnan(found) || std::isnan(exact)) return std::isnan(found) && std::isnan(exact) ? 0 : 1e9;
  if (std::isinf(found) || std::isinf(nearest)) return found == nearest ? 0 : 1e9;
  const double unit = std::max(std::ldexp(1.0, std::ilogb(nearest == 0 ? 1e-45f : nearest) - 23), std::ldexp(1.0, -149));
  return std::abs(found - exact) / unit;
}

template <class To, class From>
To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

inline void exp_and_tanh_are_accurate_for_all_floats() {
  double worst_exp = 0, worst_tanh = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4093) {
    const float x = bit_cast<float>(static_cast<uint32_t>(bits));
    const double exact = x;
    worst_exp = std::max(worst_exp, ulps(seqkern::math::exp_value(broadcast(x))[0], std::exp(exact)));
    worst_tanh = std::max(worst_tanh, ulps(seqkern::math::tanh_value(broadcast(x))[1], std::tanh(exact)));
  }
  CHECK(worst_exp <= 1);
  CHECK(worst_tanh <= 2);
}

// A value as a tensor of type T holds it, and what such a tensor holds.
template <class T>
T stored(double x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    BFloat16 to;
    store_sum(&to, broadcast(static_cast<float>(x)), 1);
    return to;
  } else {
    return static_cast<T>(x);
  }
}
template <class T>
double value_of(T x) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return bit_cast<float>(uint32_t{x.bits} << 16);
  else
    return x;
}

inline void bfloat16_rounds_to_the_nearest_and_ties_to_even() {
  bool loaded = true, rounded = true;
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    const BFloat16 value{static_cast<uint16_t>(upper)};
    const float x = load_sum(&value, 1)[0];
    loaded = loaded && bit_cast<uint32_t>(x) == upper << 16;
    for (const uint32_t lower : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float y = bit_cast<float>(upper << 16 | lower);
      const BFloat16 found = stored<BFloat16>(y);
      const bool up = lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1);
      rounded = rounded && (std::isnan(y) ? std::isnan(value_of(found)) : found.bits == upper + (up ? 1 : 0));
    }
  }
  CHECK(loaded);
  CHECK(rounded);
}

// Vectors of every length; the rest of a vector reads as zero, and memory next to the values is not written.
template <class T>
void part_of_a_vector_is_read_and_written() {
  constexpr int lanes = kLanes<Sum<T>>;
  for (int n = 1; n <= lanes; ++n) {
    std::vector<T> from, to(static_cast<size_t>(lanes + 1), stored<T>(-1));
    for (int i = 0; i < n; ++i) from.push_back(stored<T>(i + 1));
    const Vec<Sum<T>> vector = load_sum(from.data(), n);
    store_sum(to.data(), vector, n);
    bool equal = true;
    for (int i = 0; i < lanes; ++i) equal = equal && vector[i] == (i < n ? i + 1 : 0);
    for (int i = 0; i <= lanes; ++i) equal = equal && value_of(to[static_cast<size_t>(i)]) == (i < n ? i + 1 : -1);
    CHECK(equal);
  }
}

// A matrix whose rows are further apart than they are long; it ends with its last element.
template <class T>
struct Matrix {
  int64_t stride;
  std::vector<T> values;

  template <class Draw>
  Matrix(int64_t rows, int64_t columns, const Draw& draw) : stride(columns + 3) {
    for (int64_t i = 0; i < (rows - 1) * stride + columns && columns; ++i) values.push_back(stored<T>(draw()));
  }
  const T* row(int64_t r) const { return values.data() + r * stride; }
  double at(int64_t r, int64_t c) const { return value_of(values[static_cast<size_t>(r * stride + c)]); }
};

// Products that share A: with bias, with a map of rows, added to what C holds, and with panels of one vector whose columns have a
// gap in C after every two panels. Sums of small integers are exact.
template <class T>
void products_equal_plain_loops(int64_t M, int64_t N, int64_t K, bool transposed, std::mt19937& random) {
  using S = Sum<T>;
  std::uniform_int_distribution<int> small(-4, 4);
  const auto draw = [&] { return small(random); };
  const Matrix<T> a(transposed ? K : M, transposed ? M : K, draw), b(K, N, draw);
  std::vector<S> bias;
  std::vector<int64_t> reversed_rows;
  for (int64_t n = 0; n < round_to_lanes<S>(N); ++n) bias.push_back(static_cast<S>(draw()));
  for (int64_t m = 0; m < M; ++m) reversed_rows.push_back(M - 1 - m);

  const Packed<T> packed(K, N), narrow(K, N, kLanes<S>);
  for (const Packed<T>* each : {&packed, &narrow}) pack_rows(*each, {0, K}, [&](int64_t k) { return b.row(k); });
  constexpr int64_t kGroup = 2 * kLanes<S>, kGap = 5;
  const int64_t wide = (N + kGroup - 1) / kGroup * (kGroup + kGap);
  constexpr S kBefore = 1000;
  std::vector<S> c(static_cast<size_t>(M * N + 1), kBefore), reversed = c, added = c;
  std::vector<S> apart(static_cast<size_t>(M * wide + 1), kBefore);
  Product<T> with_bias{packed, c.data(), N}, mapped{packed, reversed.data(), N}, adding{packed, added.data(), N};
  Product<T> grouped{narrow, apart.data(), wide};
  with_bias.bias = bias.data();
  mapped.row_map = reversed_rows.data();
  adding.accumulate = true;
  grouped.group = 2;
  grouped.group_stride = kGroup + kGap;
  gemm(Range{0, M}, Left<T>{a.values.data(), a.stride, transposed}, {with_bias, mapped, adding, grouped});

  const auto at = [](const std::vector<S>& values, int64_t i) { return values[static_cast<size_t>(i)]; };
  bool equal = c.back() == kBefore && reversed.back() == kBefore && added.back() == kBefore && apart.back() == kBefore;
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < K; ++k) sum += (transposed ? a.at(k, m) : a.at(m, k)) * b.at(k, n);
      equal = equal && at(c, m * N + n) == sum + at(bias, n) && at(reversed, (M - 1 - m) * N + n) == sum &&
              at(added, m * N + n) == kBefore + sum && at(apart, m * wide + n / kGroup * (kGroup + kGap) + n % kGroup) == sum;
    }
    for (int64_t i = 0; i < wide; ++i)
      if (i % (kGroup + kGap) >= kGroup) equal = equal && at(apart, m * wide + i) == kBefore;
  }
  CHECK(equal);

  for (int64_t vectors = 1; vectors <= kPanelVectors; ++vectors) {  // panels of any width
    const Packed<T> other(K, N, vectors * kLanes<S>);
    pack_rows(other, {0, K}, [&](int64_t k) { return b.row(k); });
    std::vector<S> found(static_cast<size_t>(M * N + 1), kBefore);
    Product<T> product{other, found.data(), N};
    product.bias = bias.data();
    gemm(Range{0, M}, Left<T>{a.values.data(), a.stride, transposed}, {product});
    CHECK(found == c);
  }
}

// Each product and each sum is off by half a unit of the last place of sums at most.
template <class T>
void sums_are_rounded_as_sums_of_their_type(int64_t K, std::mt19937& random) {
  using S = Sum<T>;
  constexpr int64_t M = 7, N = 70;
  std::normal_distribution<double> normal;
  const auto draw = [&] { return normal(random); };
  const Matrix<T> a(M, K, draw), b(N, K, draw);
  const Packed<T> packed(K, N);
  pack_columns(packed, {0, packed.panels()}, [&](int64_t n) { return b.row(n); });
  std::vector<S> c(M * N);
  gemm(Range{0, M}, Left<T>{a.values.data(), a.stride}, {{packed, c.data(), N}});
  double worst = 0;
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      long double sum = 0, magnitude = 0;
      for (int64_t k = 0; k < K; ++k) {
        const long double product = static_cast<long double>(a.at(m, k)) * b.at(n, k);
        sum += product;
        magnitude += std::abs(product);
      }
      const long double error = std::abs(c[static_cast<size_t>(m * N + n)] - sum);
      worst = std::max(worst, static_cast<double>(error / magnitude));
    }
  CHECK(worst <= static_cast<double>(K) * static_cast<double>(std::numeric_limits<S>::epsilon()));
}

// B from rows, in parts that begin anywhere, and from columns, which lie in rows of W = B^T.
template <class T>
void packing_rows_in_parts_equals_packing_columns() {
  for (const int64_t K : {0, 1, 3, 4, 9, 33, 64})
    for (const int64_t N : {1, 4, 7, 19, 65, 130}) {
      std::mt19937 random(1);
      std::uniform_int_distribution<int> small(-100, 100);
      const Matrix<T> b(K, N, [&] { return small(random); });
      Matrix<T> w(N, K, [] { return 0; });
      for (int64_t k = 0; k < K; ++k)
        for (int64_t n = 0; n < N; ++n) w.values[static_cast<size_t>(n * w.stride + k)] = *(b.row(k) + n);
      const Packed<T> rows(K, N), columns(K, N);
      for (const Range part : {Range{K / 3, K / 2}, Range{0, K / 3}, Range{K / 2, K}})
        pack_rows(rows, part, [&](int64_t k) { return b.row(k); });
      pack_columns(columns, {0, columns.panels()}, [&](int64_t n) { return w.row(n); });
      bool equal = true;
      for (int64_t p = 0; p < rows.panels(); ++p)
        for (int64_t k = 0; k < K; k += kPackedRows<T>) {
          const auto bytes = sizeof(PackedElement<T>) * static_cast<size_t>(round_to_lanes<Sum<T>>(rows.width(p)));
          equal = equal && std::memcmp(rows.at(p, k), columns.at(p, k), bytes) == 0;
        }
      CHECK(equal);
    }
}

inline void memory_is_aligned_and_used_again() {
  const void* first;
  {
    const Buffer<float> small(100), large(3 << 20);
    CHECK(reinterpret_cast<uintptr_t>(small.get()) % 64 == 0);
    CHECK(reinterpret_cast<uintptr_t>(large.get()) % 64 == 0);
    large.get()[(3 << 20) - 1] = 1;
    first = large.get();
  }
  const Buffer<float> again((3 << 20) - 5), other(3 << 20), none(0);
  CHECK(again.get() == first);
  CHECK(other.get() != first);
  CHECK(none.get() == nullptr);
}

template <class T>
void tests_of_type() {
  part_of_a_vector_is_read_and_written<T>();
  packing_rows_in_parts_equals_packing_columns<T>();
  std::mt19937 random(1);
  for (const int64_t M : {0, 1, 5, 6, 7, 16, 17, 63, 100})
    for (const int64_t N : {0, 1, 5, 16, 17, 63, 64, 65, 100})
      for (const int64_t K : {0, 1, 5, 16, 17, 64, 65, 4099})
        for (const bool transposed : {false, true})
          if (K < 1000 || M * N < 500) products_equal_plain_loops<T>(M, N, K, transposed, random);
  for (const int64_t K : {1, 2, 65, 100, 3001}) sums_are_rounded_as_sums_of_their_type<T>(K, random);
}

inline void tests() {
  exp_and_tanh_are_accurate_for_all_floats();
  bfloat16_rounds_to_the_nearest_and_ties_to_even();
  tests_of_type<float>();
  tests_of_type<double>();
#if SEQKERN_BFLOAT16_DOT
  tests_of_type<BFloat16>();
#endif
  memory_is_aligned_and_used_again();
}
