// The kernels of cuda/softmax.cu, run on the host (tests/cuda_host) against the loss in float64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/device.cuh"
#include "cuda/softmax.cu"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;

constexpr int64_t kIgnored = -1, kMargin = 16;

template <class T>
T rounded(double x) {
  T y;
  from_sum(static_cast<Sum<T>>(x), y);
  return y;
}

template <class T>
double value(T x) {
  return static_cast<double>(to_sum(x));
}

// Elements from `begin` of a 16-byte aligned buffer, with a margin of NaN on both sides.
template <class T>
struct Buffer {
  std::vector<T> all;
  size_t begin;

  Buffer(int64_t count, int64_t offset)
      : all(static_cast<size_t>(count + 3 * kMargin), rounded<T>(std::numeric_limits<double>::quiet_NaN())) {
    begin = static_cast<size_t>(kMargin);
    while (reinterpret_cast<uintptr_t>(&all[begin]) % kVectorBytes != 0) ++begin;
    begin += static_cast<size_t>(offset);
  }
  T* data() { return &all[begin]; }
  bool margins_untouched(int64_t count) const {
    const auto untouched = [](T x) { return std::isnan(to_sum(x)); };
    const auto first = all.begin() + static_cast<int64_t>(begin);
    return std::all_of(all.begin(), first, untouched) && std::all_of(first + count, all.end(), untouched);
  }
};

template <class T>
struct Case {
  int64_t rows, classes;
  int64_t offset = 0, d_offset = 0;  // of logits and d_logits from 16-byte alignment, in elements
  bool with_gradient = true;
  std::vector<int64_t> target = {};  // made up if empty
};

template <class T>
void test(const Case<T>& of, double tolerance) {
  using S = Sum<T>;
  const int64_t R = of.rows, V = of.classes;
  std::mt19937 random(static_cast<unsigned>(R * 1000 + V));
  std::normal_distribution<double> normal(0, 3);
  Buffer<T> logits(R * V, of.offset), d_logits(R * V, of.d_offset);
  for (int64_t i = 0; i < R * V; ++i) logits.data()[i] = rounded<T>(normal(random));
  std::vector<int64_t> target = of.target;
  for (int64_t r = 0; target.size() < static_cast<size_t>(R); ++r) target.push_back(r % 3 == 1 ? kIgnored : (r * 7 + 3) % V);
  int64_t count = -1;
  S loss = std::numeric_limits<S>::quiet_NaN();
  std::vector<S> row_loss(static_cast<size_t>(R), loss);

  SoftmaxLossCudaParams<T, S> p{};
  p.rows = R;
  p.classes = V;
  p.ignore_index = kIgnored;
  p.logits = logits.data();
  p.target = target.data();
  p.count = &count;
  p.row_loss = row_loss.data();
  p.loss = &loss;
  p.d_logits = of.with_gradient ? d_logits.data() : nullptr;
  host::forget_buffers();
  host::declare_buffer(logits.data(), static_cast<size_t>(R * V) * sizeof(T));
  host::declare_buffer(target.data(), target.size() * sizeof(int64_t));
  host::declare_uninitialized(&count, sizeof(count));
  host::declare_uninitialized(row_loss.data(), row_loss.size() * sizeof(S));
  host::declare_uninitialized(&loss, sizeof(loss));
  if (of.with_gradient) host::declare_buffer(d_logits.data(), static_cast<size_t>(R * V) * sizeof(T));
  CHECK(launch_softmax_loss(p, cudaStream_t()) == cudaSuccess);

  const auto counted = static_cast<double>(R - std::count(target.begin(), target.end(), kIgnored));
  CHECK(static_cast<double>(count) == counted);
  double total = 0;
  for (int64_t r = 0; r < R; ++r) {
    const int64_t t = target[static_cast<size_t>(r)];
    const bool in_range = t >= 0 && t < V;
    const T* x = logits.data() + r * V;
    double peak = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t v = 0; v < V; ++v) peak = std::max(peak, value(x[v]));
    for (int64_t v = 0; v < V; ++v) sum += std::exp(value(x[v]) - peak);
    if (t != kIgnored) total += in_range ? std::log(sum) + peak - value(x[t]) : std::numeric_limits<double>::quiet_NaN();
    for (int64_t v = 0; of.with_gradient && v < V; ++v) {
      const double actual = value(d_logits.data()[r * V + v]);
      const double expected = (std::exp(value(x[v]) - peak) / sum - (v == t)) / counted;
      if (t == kIgnored)
        CHECK(actual == 0);
      else if (!in_range)
        CHECK(std::isnan(actual));
      else
        CHECK(std::fabs(actual - expected) <= tolerance * std::fabs(expected) + 1e-7);
    }
  }
  const double expected = counted > 0 ? total / counted : 0;
  const double of_sums = sizeof(S) == 8 ? 1e-14 : 1e-6;
  CHECK(std::isnan(expected) ? std::isnan(loss) : std::fabs(static_cast<double>(loss) - expected) <= of_sums * (1 + expected));
  CHECK(d_logits.margins_untouched(of.with_gradient ? R * V : 0));
}

template <class T>
void test_type(double tolerance) {
  constexpr int64_t kWidth = kVectorBytes / sizeof(T);
  for (const int64_t V : {int64_t{1}, int64_t{2}, kWidth - 1, kWidth, kWidth + 1, 2 * kWidth, int64_t{33}, int64_t{130}}) {
    test(Case<T>{7, V}, tolerance);
    test(Case<T>{7, V, 0, 0, false}, tolerance);
    test(Case<T>{7, V, 1, 1}, tolerance);         // rows begin within a vector
    test(Case<T>{7, V, 1, 0}, tolerance);         // differently in the two arrays: single elements
    test(Case<T>{7, V, 1, 0, false}, tolerance);  // no such matter without a gradient
  }
  test(Case<T>{0, 5}, tolerance);
  test(Case<T>{2, 9, 0, 0, true, {kIgnored, kIgnored}}, tolerance);
  constexpr int64_t kFar = int64_t{1} << 62;
  test(Case<T>{6, 9, 0, 0, true, {3, 9, -2, kFar, -kFar, kIgnored}}, tolerance);
}

// Rows with infinite or NaN logits, as IEEE arithmetic has it: (loss, or NaN), and the gradient of its first logit.
void test_special(std::vector<float> row, int64_t target, double loss, double d_first) {
  int64_t count = 0;
  float actual = 0, row_loss = 0;
  std::vector<float> d_row(row.size());
  const SoftmaxLossCudaParams<float, float> p{
      1, static_cast<int64_t>(row.size()), kIgnored, row.data(), &target, &count, &row_loss, &actual, d_row.data()};
  host::forget_buffers();
  host::declare_buffer(row.data(), row.size() * sizeof(float));
  host::declare_buffer(&target, sizeof(target));
  host::declare_uninitialized(&count, sizeof(count));
  host::declare_uninitialized(&row_loss, sizeof(row_loss));
  host::declare_uninitialized(&actual, sizeof(actual));
  host::declare_uninitialized(d_row.data(), d_row.size() * sizeof(float));
  CHECK(launch_softmax_loss(p, cudaStream_t()) == cudaSuccess);
  const auto same = [](double a, double b) { return std::isnan(b) ? std::isnan(a) : a == b || std::fabs(a - b) < 1e-6; };
  CHECK(same(static_cast<double>(actual), loss));
  CHECK(same(static_cast<double>(d_row[0]), d_first));
}

}  // namespace

int main() {
  test_type<double>(1e-12);
  test_type<float>(1e-5);
  test_type<math::BFloat16>(1.0 / 256);
  test_type<Float16>(1.0 / 1024);

  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  test_special({1000, 1000, -1000}, 0, std::log(2.0), -0.5);    // neither overflow nor underflow
  test_special({-inf, 0, 0, -inf, -inf}, 1, std::log(2.0), 0);  // classes that are masked out
  test_special({-inf, 0, 0}, 0, std::numeric_limits<double>::infinity(), -1);
  test_special({-inf, -inf}, 0, std::nan(""), std::nan(""));
  test_special({0, inf}, 0, std::nan(""), std::nan(""));
  test_special({0, 1, nan, 2, 3, 4, 5}, 0, std::nan(""), std::nan(""));
  return test::failures();
}
