// The kernels of cuda/softmax.cu, run on the host (tests/cuda_host) against plain loops in float64.
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
constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNotANumber = std::numeric_limits<double>::quiet_NaN();

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

size_t at(int64_t i) { return static_cast<size_t>(i); }

// Elements from `offset` after a 16-byte boundary, with a margin of NaN on both sides.
template <class T>
struct Buffer {
  std::vector<T> all;
  size_t begin;
  int64_t count;

  Buffer(int64_t count, int64_t offset) : all(at(count + 3 * kMargin), rounded<T>(kNotANumber)), count(count) {
    begin = at(kMargin);
    while (reinterpret_cast<uintptr_t>(&all[begin]) % kVectorBytes != 0) ++begin;
    begin += at(offset);
    host::declare_buffer(data(), at(count) * sizeof(T));
  }
  T* data() { return &all[begin]; }
  bool margins_untouched() const {
    const auto untouched = [](T x) { return std::isnan(to_sum(x)); };
    const auto first = all.begin() + static_cast<int64_t>(begin);
    return std::all_of(all.begin(), first, untouched) && std::all_of(first + count, all.end(), untouched);
  }
};

template <class V>
std::vector<V> uninitialized(int64_t count) {
  std::vector<V> values(at(count));
  host::declare_uninitialized(values.data(), values.size() * sizeof(V));
  return values;
}

struct Case {
  int64_t rows, classes;
  int64_t offset = 0, d_offset = 0, q_offset = 0;  // of logits, d_logits and probabilities from 16-byte alignment, in elements
  bool with_gradient = true, in_place = false, statistics = false, weighted = false, soft = false, masked = false;
  Reduction reduction = Reduction::mean;
  math::SoftmaxOptions<double> options = {0, 0, 0, 1};
  int64_t first_class = 0, all_classes = 0;  // 0: no shards
  std::vector<int64_t> target = {};          // made up if empty
  double spread = 3;                         // of logits
};

// A row of math/softmax.h, in float64.
struct Row {
  std::vector<double> z, slope, q, w;  // of each class here
  math::SoftmaxOptions<double> options;
  double all_classes;

  double peak() const { return *std::max_element(z.begin(), z.end()); }
  double log_sum() const {
    const double base = peak();
    return std::log(sum([&](size_t v) { return std::exp(z[v] - base); }));
  }
  double a(size_t v) const { return (1 - options.smoothing) * w[v] * q[v] + options.smoothing / all_classes * w[v]; }
  template <class Of>
  double sum(const Of& of) const {
    double sum = 0;
    for (size_t v = 0; v < z.size(); ++v) sum += of(v);
    return sum;
  }
  // What counts nothing is 0 even at -inf.
  static double times(double a, double b) { return a == 0 ? 0 : a * b; }

  std::vector<double> numbers(bool statistics) const {
    const double peak = this->peak(), log_sum = this->log_sum(), lse = peak + log_sum;
    const double mass = sum([&](size_t v) { return a(v); });
    const double pull = sum([&](size_t v) { return times(a(v), z[v] - peak); });
    const double mean = sum([&](size_t v) { return times(std::exp(z[v] - lse), z[v] - peak); });
    return {mass * log_sum - pull + options.z_loss * lse * lse,
            peak,
            log_sum,
            sum([&](size_t v) { return times(q[v], z[v] - peak); }),
            sum([&](size_t v) { return q[v]; }),
            pull,
            mass,
            statistics ? mean : 0};
  }
  // By the upstream gradients d[kRowGradients]: of each term of the loss, by itself.
  std::vector<double> gradient(const std::vector<double>& d) const {
    const std::vector<double> n = numbers(true);
    const double peak = n[math::kRowPeak], lse = peak + n[math::kRowLogSum], entropy = n[math::kRowLogSum] - n[math::kRowMean];
    std::vector<double> gradient(z.size());
    for (size_t v = 0; v < z.size(); ++v) {
      const double p = std::exp(z[v] - lse);
      const double of_loss = p * n[math::kRowMass] - a(v) + 2 * options.z_loss * lse * p;
      const double of_log_probability = q[v] - p * n[math::kRowShare];
      const double of_entropy = -times(p, z[v] - lse + entropy);
      const double dz = d[math::kOfLoss] * of_loss + d[math::kOfLogProbability] * of_log_probability + d[math::kOfLogSumExp] * p +
                        d[math::kOfEntropy] * of_entropy;
      gradient[v] = dz * slope[v];
    }
    return gradient;
  }
  int64_t rank(size_t of) const {
    int64_t count = 0;
    for (size_t v = 0; v < z.size(); ++v) count += z[v] > z[of] || (z[v] == z[of] && v < of);
    return count;
  }
};

bool close(double actual, double expected, double tolerance) {
  if (std::isnan(expected) || std::isinf(expected)) return std::isnan(expected) ? std::isnan(actual) : actual == expected;
  return std::fabs(actual - expected) <= tolerance * (1 + std::fabs(expected));
}

// A loss, its gradient, and the gradient from its numbers.
template <class T>
void test(const Case& of) {
  using S = Sum<T>;
  const double tolerance = sizeof(S) == 8 ? 1e-13 : 2e-6;  // of sums
  const double rounding = sizeof(T) == 8 ? 0 : sizeof(T) == 4 ? 0 : std::is_same_v<T, Float16> ? 0x1p-11 : 0x1p-8;
  const double smallest = std::is_same_v<T, Float16> ? 0x1p-24 : 0;
  const int64_t R = of.rows, V = of.classes, all = of.all_classes ? of.all_classes : V, stride = R + 3, first = 2;
  std::mt19937 random(static_cast<unsigned>(R * 1000 + V));
  std::normal_distribution<double> normal(0, of.spread);
  std::uniform_real_distribution<double> uniform(0.1, 1);
  host::forget_buffers();
  Buffer<T> logits(R * V, of.offset), d_logits(of.in_place || !of.with_gradient ? 0 : R * V, of.d_offset);
  Buffer<T> q(of.soft ? R * V : 0, of.q_offset);
  for (int64_t i = 0; i < R * V; ++i)
    logits.data()[i] = rounded<T>(of.masked && V > 1 && i % 5 == 2 ? -kInfinity : normal(random));
  for (int64_t i = 0; i < R * V && of.soft; ++i) {
    const double share = of.masked && i % 5 == 2 ? 0 : uniform(random) / static_cast<double>(V);
    q.data()[i] = rounded<T>(i % 3 == 0 ? 0 : share);
  }
  std::vector<S> class_weight(at(V));
  for (S& w : class_weight) w = static_cast<S>(uniform(random));
  if (V > 2) class_weight[1] = 0;
  host::declare_buffer(class_weight.data(), class_weight.size() * sizeof(S));
  std::vector<int64_t> target = of.target;
  for (int64_t r = 0; target.size() < at(R); ++r) target.push_back(r % 3 == 1 ? kIgnored : (r * 7 + 3) % all);
  host::declare_buffer(target.data(), target.size() * sizeof(int64_t));
  // Of wider arrays, as those of a part of the rows are.
  std::vector<S> numbers = uninitialized<S>(math::kRowNumbers * stride);
  std::vector<int64_t> ranks = uninitialized<int64_t>(2 * stride);
  S denominator = kNotANumber, loss = kNotANumber;
  host::declare_uninitialized(&denominator, sizeof(S));
  host::declare_uninitialized(&loss, sizeof(S));
  const std::vector<T> given(logits.data(), logits.data() + R * V);

  SoftmaxParams<T> p{};
  p.rows = R;
  p.classes = V;
  p.stride = stride;
  p.statistics = of.statistics;
  p.reduction = of.reduction;
  p.target.target = of.soft ? nullptr : target.data();
  p.target.probabilities = of.soft ? q.data() : nullptr;
  p.target.class_weight = of.weighted ? class_weight.data() : nullptr;
  p.target.ignore_index = kIgnored;
  p.target.first_class = of.first_class;
  p.target.all_classes = all;
  p.target.options = {static_cast<S>(of.options.smoothing), static_cast<S>(of.options.z_loss), static_cast<S>(of.options.cap),
                      static_cast<S>(of.options.scale)};
  p.logits = logits.data();
  p.numbers = numbers.data() + first;
  p.ranks = ranks.data() + first;
  p.denominator = &denominator;
  p.loss = &loss;
  p.d_logits = !of.with_gradient ? nullptr : of.in_place ? logits.data() : d_logits.data();
  CHECK(launch_softmax_denominator(p, cudaStream_t()) == cudaSuccess);
  CHECK(launch_softmax_rows(p, cudaStream_t()) == cudaSuccess);
  CHECK(launch_softmax_loss(p, cudaStream_t()) == cudaSuccess);

  std::vector<Row> rows(at(R));
  double count = of.reduction != Reduction::mean ? 1 : of.soft ? static_cast<double>(R) : 0, total = 0;
  for (int64_t r = 0; r < R; ++r) {
    Row& row = rows[at(r)];
    row.options = of.options;
    row.all_classes = static_cast<double>(all);
    const int64_t t = of.soft ? 0 : target[at(r)];
    for (int64_t v = 0; v < V; ++v) {
      const double x = value(given[at(r * V + v)]), cap = of.options.cap, y = cap != 0 ? std::tanh(x / cap) : 0;
      row.z.push_back((cap != 0 ? cap * y : x) * of.options.scale);
      row.slope.push_back((1 - y * y) * of.options.scale);
      row.w.push_back(of.weighted ? static_cast<double>(class_weight[at(v)]) : 1);
      row.q.push_back(of.soft ? value(q.data()[r * V + v]) : t == v + of.first_class ? 1 : 0);
    }
    const bool here = t >= of.first_class && t - of.first_class < V, invalid = t < 0 || t >= all;
    if (of.reduction != Reduction::mean || of.soft || t == kIgnored) continue;
    count += invalid ? 1 : here ? row.w[at(t - of.first_class)] : 0;
  }
  CHECK(close(static_cast<double>(denominator), count, tolerance));

  // Compares with what a row should be; `scale` is what it is multiplied by.
  const auto check_gradient = [&](int64_t r, const T* actual, const std::vector<double>& d) {
    const int64_t t = of.soft ? 0 : target[at(r)];
    const bool ignored = !of.soft && t == kIgnored, invalid = t < 0 || t >= all;
    const std::vector<double> expected = rows[at(r)].gradient(d);
    double largest = 0;
    for (const double x : d) largest = std::max(largest, std::fabs(x));
    for (int64_t v = 0; v < V; ++v) {
      const double x = value(actual[r * V + v]), y = expected[at(v)];
      if (ignored)
        CHECK(x == 0);
      else if (invalid)
        CHECK(std::isnan(x));
      else
        CHECK(std::fabs(x - y) <= rounding * std::fabs(y) + smallest + 4 * tolerance * largest);
    }
  };

  for (int64_t r = 0; r < R; ++r) {
    const Row& row = rows[at(r)];
    const int64_t t = of.soft ? 0 : target[at(r)];
    const bool ignored = !of.soft && t == kIgnored, invalid = t < 0 || t >= all;
    const std::vector<double> expected = row.numbers(of.statistics);
    total += ignored ? 0 : invalid ? kNotANumber : expected[math::kRowLoss];
    for (int i = 0; i < math::kRowNumbers; ++i) {
      const double actual = static_cast<double>(numbers[at(i * stride + first + r)]);
      CHECK(close(actual, ignored ? 0 : invalid ? kNotANumber : expected[at(i)], 2 * tolerance));
    }
    if (of.statistics) {
      const auto likeliest = std::max_element(row.q.begin(), row.q.end());
      const bool here = *likeliest > 0 || of.soft;
      const auto greatest = std::max_element(row.z.begin(), row.z.end()) - row.z.begin();
      CHECK(ranks[at(first + r)] == (ignored || invalid || !here ? -1 : row.rank(at(likeliest - row.q.begin()))));
      CHECK(ranks[at(stride + first + r)] == (ignored || invalid ? -1 : greatest + of.first_class));
    }
    if (of.with_gradient) check_gradient(r, p.d_logits, {count == 0 ? 0 : 1 / count, 0, 0, 0});
  }
  if (of.reduction != Reduction::none) CHECK(close(static_cast<double>(loss), count == 0 ? 0 : total / count, tolerance));
  CHECK(logits.margins_untouched() && d_logits.margins_untouched());
  if (!of.in_place)
    CHECK(std::equal(given.begin(), given.end(), logits.data(),
                     [](T a, T b) { return value(a) == value(b) || std::isnan(value(a)); }));

  // From numbers and gradients: first of the loss alone, which yields the same bits once more; then of all that a row yields.
  if (!of.with_gradient) return;
  const std::vector<T> gradient(p.d_logits, p.d_logits + R * V);
  std::vector<S> d_numbers(at(math::kRowGradients * stride));
  std::fill_n(d_numbers.begin() + first, R, denominator == 0 ? S(0) : 1 / denominator);
  const std::vector<S> known = numbers;
  host::declare_buffer(d_numbers.data(), d_numbers.size() * sizeof(S));
  host::declare_buffer(numbers.data(), numbers.size() * sizeof(S));
  p.statistics = false;
  p.reduction = Reduction::none;
  p.d_numbers = d_numbers.data() + first;
  p.denominator = p.loss = nullptr;
  p.ranks = nullptr;
  std::copy(given.begin(), given.end(), logits.data());
  CHECK(launch_softmax_rows(p, cudaStream_t()) == cudaSuccess);
  const auto same = [](T a, T b) { return value(a) == value(b) || (std::isnan(value(a)) && std::isnan(value(b))); };
  CHECK(std::equal(gradient.begin(), gradient.end(), p.d_logits, same));

  for (S& d : d_numbers) d = static_cast<S>(uniform(random));
  if (!of.statistics)  // the entropy is not known
    std::fill(d_numbers.begin() + math::kOfEntropy * stride, d_numbers.end(), S(0));
  std::copy(given.begin(), given.end(), logits.data());
  CHECK(launch_softmax_rows(p, cudaStream_t()) == cudaSuccess);
  for (int64_t r = 0; r < R; ++r) {
    std::vector<double> d;
    for (int i = 0; i < math::kRowGradients; ++i) d.push_back(static_cast<double>(d_numbers[at(i * stride + first + r)]));
    check_gradient(r, p.d_logits, d);
  }
  CHECK(std::equal(known.begin(), known.end(), numbers.begin(), [](S a, S b) { return a == b || std::isnan(a); }));
}

Case with(Case of, math::SoftmaxOptions<double> options) {
  of.options = options;
  return of;
}

template <class T>
void test_type() {
  constexpr int64_t kWidth = kVectorBytes / sizeof(T);
  for (const int64_t V : {int64_t{1}, int64_t{2}, kWidth - 1, kWidth, kWidth + 1, 2 * kWidth, int64_t{33}, int64_t{130}}) {
    if (V == 0) continue;
    for (const bool general : {false, true}) {
      Case of{7, V};
      of.statistics = of.weighted = general;
      test<T>(of);
      of.offset = of.d_offset = 1;  // rows begin within a vector
      test<T>(of);
      of.d_offset = 0;  // differently in the two arrays: single elements
      test<T>(of);
      of.with_gradient = false;  // no such matter without a gradient
      test<T>(of);
      of.with_gradient = of.in_place = true;
      test<T>(of);
      of.masked = true;
      test<T>(of);
    }
  }
  constexpr int64_t kFar = int64_t{1} << 62, kFarthest = std::numeric_limits<int64_t>::min();
  for (const bool general : {false, true}) {
    Case of{0, 5};
    of.statistics = general;
    test<T>(of);
    of = {2, 9};
    of.statistics = general;
    of.target = {kIgnored, kIgnored};
    test<T>(of);
    of = {7, 9};
    of.weighted = of.statistics = general;
    of.target = {3, 9, -2, kFar, -kFar, kFarthest, kIgnored};
    test<T>(of);
    of.in_place = true;
    test<T>(of);
  }

  const Case plain{5, 37, 1, 1, 1};
  for (const Reduction reduction : {Reduction::none, Reduction::mean, Reduction::sum}) {
    Case of = plain;
    of.reduction = reduction;
    test<T>(of);
    of.soft = of.statistics = true;
    test<T>(of);
  }
  for (const bool soft : {false, true})
    for (const bool weighted : {false, true}) {
      Case of = plain;
      of.soft = soft;
      of.weighted = weighted;
      test<T>(with(of, {0.1, 0, 0, 1}));
      test<T>(with(of, {1, 0, 0, 1}));
      test<T>(with(of, {0, 0.01, 0, 1}));
      test<T>(with(of, {0, 0, 4, 1}));
      test<T>(with(of, {0, 0, 0, 0.7}));
      of.statistics = true;
      test<T>(with(of, {0.3, 0.02, 5, 1.3}));
      of.in_place = true;
      test<T>(with(of, {0.3, 0.02, 5, 1.3}));
      of.q_offset = 0;
      test<T>(with(of, {0.3, 0.02, 5, 1.3}));
      of.masked = true;
      test<T>(with(of, {0, 0.02, 0, 1}));
    }
  // The middle shard of three: targets are before, in and after it.
  Case shard = plain;
  shard.first_class = 37;
  shard.all_classes = 111;
  shard.target = {36, 37, 73, 74, kIgnored};
  shard.reduction = Reduction::sum;
  shard.statistics = true;
  test<T>(shard);
  shard.weighted = true;
  test<T>(with(shard, {0.2, 0.01, 6, 1}));
  shard.target = {0, 110, 111, -2, 40};
  test<T>(shard);
}

// Rows too large for shared memory, and those that just fit it.
template <class T>
void test_large_rows() {
  auto& bytes = host::simulated_device().shared_bytes;
  const int before = bytes;
  bytes = 20 << 10;
  const int64_t fits = ((bytes / 2) - (4 << 10) - kVectorBytes) / static_cast<int64_t>(sizeof(T));
  for (const int64_t V : {fits, fits + 1, int64_t{9001}})
    for (const bool general : {false, true})
      for (const bool in_place : {false, true}) {
        Case of{2, V, 1, 1};
        of.in_place = in_place;
        of.target = {V - 1, 5};
        if (general) of.options.scale = 0.5;
        test<T>(of);
      }
  bytes = before;
}

// A row of float32 with infinite or NaN logits, as IEEE arithmetic has it: the loss, and the gradient of its first logit.
void test_special(std::vector<float> row, int64_t target, double loss, double d_first, math::SoftmaxOptions<float> options) {
  for (const bool statistics : {false, true}) {
    float actual = 0, denominator = 0;
    std::vector<float> d_row(row.size()), numbers(math::kRowNumbers);
    std::vector<int64_t> ranks(2);
    SoftmaxParams<float> p{};
    p.rows = p.stride = 1;
    p.classes = p.target.all_classes = static_cast<int64_t>(row.size());
    p.reduction = Reduction::mean;
    p.statistics = statistics;
    p.target.target = &target;
    p.target.ignore_index = kIgnored;
    p.target.options = options;
    p.logits = row.data();
    p.numbers = numbers.data();
    p.ranks = ranks.data();
    p.denominator = &denominator;
    p.loss = &actual;
    p.d_logits = d_row.data();
    host::forget_buffers();
    host::declare_buffer(row.data(), row.size() * sizeof(float));
    host::declare_buffer(&target, sizeof(target));
    host::declare_uninitialized(&denominator, sizeof(denominator));
    host::declare_uninitialized(&actual, sizeof(actual));
    host::declare_uninitialized(numbers.data(), numbers.size() * sizeof(float));
    host::declare_uninitialized(ranks.data(), ranks.size() * sizeof(int64_t));
    host::declare_uninitialized(d_row.data(), d_row.size() * sizeof(float));
    CHECK(launch_softmax_denominator(p, cudaStream_t()) == cudaSuccess);
    CHECK(launch_softmax_rows(p, cudaStream_t()) == cudaSuccess);
    CHECK(launch_softmax_loss(p, cudaStream_t()) == cudaSuccess);
    const auto same = [](double a, double b) { return std::isnan(b) ? std::isnan(a) : a == b || std::fabs(a - b) < 1e-6; };
    CHECK(same(static_cast<double>(actual), loss));
    for (const float d : d_row) CHECK(std::isnan(d) == std::isnan(d_first));
    CHECK(same(static_cast<double>(d_row[0]), d_first));
    if (!std::isnan(loss)) CHECK(!statistics || !std::isnan(numbers[math::kRowMean]));
  }
}

}  // namespace

// Multiplies `count` values from `offset` of 16-byte alignment.
template <class T>
void test_scale(int64_t count, int64_t offset, double by) {
  Buffer<T> values(count, offset);
  for (int64_t i = 0; i < count; ++i) values.data()[i] = rounded<T>(static_cast<double>(i % 13) - 6);
  const Sum<T> factor = static_cast<Sum<T>>(by);
  host::declare_buffer(&factor, sizeof(factor));
  CHECK(launch_scale(ScaleParams<T>{count, &factor, values.data()}, nullptr) == cudaSuccess);
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) wrong += value(values.data()[i]) != by * (static_cast<double>(i % 13) - 6);
  CHECK(wrong == 0);
  CHECK(values.margins_untouched());
}

int main() {
  for (const double by : {1.0, 0.5, -2.0}) {
    for (const int64_t count : {0, 1, 33, 20000}) {
      for (const int64_t offset : {0, 1}) {
        test_scale<float>(count, offset, by);
        test_scale<double>(count, offset, by);
        test_scale<math::BFloat16>(count, offset, by);
        test_scale<Float16>(count, offset, by);
      }
    }
  }
  test_type<double>();
  test_type<float>();
  test_type<math::BFloat16>();
  test_type<Float16>();
  test_large_rows<float>();
  test_large_rows<math::BFloat16>();

  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const math::SoftmaxOptions<float> none{0, 0, 0, 1}, smoothing{0.5, 0, 0, 1}, shaped{0, 0, 2, 0.5};
  test_special({1000, 1000, -1000}, 0, std::log(2.0), -0.5, none);    // neither overflow nor underflow
  test_special({-inf, 0, 0, -inf, -inf}, 1, std::log(2.0), 0, none);  // classes that are masked out
  test_special({-inf, 0, 0}, 0, kInfinity, -1, none);
  test_special({-inf, -inf}, 0, kNotANumber, kNotANumber, none);
  test_special({0, inf}, 0, kNotANumber, kNotANumber, none);
  test_special({0, 1, nan, 2, 3, 4, 5}, 0, kNotANumber, kNotANumber, none);
  test_special({-inf, 0, 0, 0}, 1, kInfinity, -0.125, smoothing);
  test_special({-inf, -inf}, 0, kNotANumber, kNotANumber, smoothing);
  test_special({0, 1, nan, 2, 3, 4, 5}, 0, kNotANumber, kNotANumber, smoothing);
  test_special({-inf, inf}, 1, std::log1p(std::exp(-2.0)), 0, shaped);  // a cap makes infinite logits finite
  return test::failures();
}
