// The ground the CPU kernels stand on: exp and tanh of vectors, transposition, products and working memory, with portable
// vectors.
#define SEQKERN_ISA plain
#define SEQKERN_VECTOR_BYTES 16
#include "cpu/kernels_common.h"
// The order matters: what tells the instruction set comes before what is compiled for it.
#include "cpu/gemm.h"

#include <random>
#include <vector>

#include "check.h"

using namespace seqkern::cpu;
using namespace seqkern::cpu::plain;

namespace {

// Error in units of the last place of the exact result.
double ulps(float found, double exact) {
  const float nearest = static_cast<float>(exact);
  if (std::isnan(found) || std::isnan(exact)) return std::isnan(found) && std::isnan(exact) ? 0 : 1e9;
  if (std::isinf(found) || std::isinf(nearest)) return found == nearest ? 0 : 1e9;
  const double unit = std::max(std::ldexp(1.0, std::ilogb(nearest == 0 ? 1e-45f : nearest) - 23), std::ldexp(1.0, -149));
  return std::abs(found - exact) / unit;
}

void exp_and_tanh_are_accurate_for_all_floats() {
  double worst_exp = 0, worst_tanh = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4093) {
    const uint32_t word = static_cast<uint32_t>(bits);
    float x;
    std::memcpy(&x, &word, sizeof(x));
    const double exact = x;
    worst_exp = std::max(worst_exp, ulps(seqkern::math::exp_value(broadcast(x))[0], std::exp(exact)));
    worst_tanh = std::max(worst_tanh, ulps(seqkern::math::tanh_value(broadcast(x))[1], std::tanh(exact)));
  }
  CHECK(worst_exp <= 1);
  CHECK(worst_tanh <= 2);
}

template <class T>
void product_equals_plain_loops(int64_t M, int64_t N, int64_t K, bool transposed, std::mt19937& random) {
  std::uniform_int_distribution<int> small(-4, 4);  // sums of small integers are exact
  const auto draw = [&](int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    for (T& value : values) value = static_cast<T>(small(random));
    return values;
  };
  const std::vector<T> a = draw(M * K), b = draw(K * N), bias = draw(round_to_lanes<T>(N));
  std::vector<int64_t> reversed_rows(static_cast<size_t>(M));
  for (int64_t m = 0; m < M; ++m) reversed_rows[static_cast<size_t>(m)] = M - 1 - m;

  const Packed<T> packed(K, N);
  pack_rows(packed, {0, K}, [&](int64_t k) { return b.data() + k * N; });
  constexpr T kUntouched = 1e6;
  std::vector<T> c(static_cast<size_t>(M * N + 1), kUntouched), d = c;
  gemm(Range{0, M}, Left<T>{a.data(), transposed ? M : K, transposed},
       {{packed, c.data(), N, nullptr, bias.data()}, {packed, d.data(), N, reversed_rows.data()}});

  bool equal = c.back() == kUntouched && d.back() == kUntouched;
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      T sum = 0;
      for (int64_t k = 0; k < K; ++k)
        sum += a[static_cast<size_t>(transposed ? k * M + m : m * K + k)] * b[static_cast<size_t>(k * N + n)];
      equal = equal && c[static_cast<size_t>(m * N + n)] == sum + bias[static_cast<size_t>(n)] &&
              d[static_cast<size_t>((M - 1 - m) * N + n)] == sum;
    }
  CHECK(equal);
}

// Columns of B that lie in rows of W = B^T.
void packing_columns_equals_packing_rows() {
  for (const int64_t K : {1, 3, 4, 9})
    for (const int64_t N : {1, 4, 7, 19}) {
      std::vector<float> b(static_cast<size_t>(K * N)), w(b.size());
      for (int64_t k = 0; k < K; ++k)
        for (int64_t n = 0; n < N; ++n)
          b[static_cast<size_t>(k * N + n)] = w[static_cast<size_t>(n * K + k)] = static_cast<float>(k * N + n);
      const Packed<float> rows(K, N), columns(K, N);
      pack_rows(rows, {0, K}, [&](int64_t k) { return b.data() + k * N; });
      pack_columns(columns, {0, columns.panels()}, [&](int64_t n) { return w.data() + n * K; });
      CHECK(std::memcmp(rows.data.get(), columns.data.get(), sizeof(float) * static_cast<size_t>(K * round_to_lanes<float>(N))) ==
            0);
    }
}

void memory_is_aligned_and_used_again() {
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

}  // namespace

int main() {
  exp_and_tanh_are_accurate_for_all_floats();
  std::mt19937 random(1);
  for (const int64_t M : {0, 1, 5, 6, 7, 13, 97})
    for (const int64_t N : {1, 3, 4, 8, 9, 21})
      for (const int64_t K : {0, 1, 5, 64, 4099})
        for (const bool transposed : {false, true}) {
          if (K > 1000 && M * N > 300) continue;
          product_equals_plain_loops<float>(M, N, K, transposed, random);
          product_equals_plain_loops<double>(M, N, K, transposed, random);
        }
  packing_columns_equals_packing_rows();
  memory_is_aligned_and_used_again();
  return seqkern::test::failures();
}
