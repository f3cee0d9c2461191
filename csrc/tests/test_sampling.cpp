// Alias tables (cpu/sampling.h), and the rare ends of draws without replacement (math/distinct_draws.h).
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "cpu/sampling.h"
#include "math/distinct_draws.h"

using namespace seqkern;

namespace {

struct Table {
  explicit Table(const std::vector<double>& weights) : buckets(weights.size()), cumulative(weights.size()) {
    cpu::make_alias_table(weights.data(), classes(), buckets.data(), cumulative.data());
  }

  int64_t classes() const { return static_cast<int64_t>(buckets.size()); }

  std::vector<int64_t> draw(uint64_t seed, int64_t rows, int64_t count, int64_t target, int threads = 1) const {
    const std::vector<int64_t> targets(static_cast<size_t>(rows), target);
    std::vector<int64_t> ids(static_cast<size_t>(rows * count));
    cpu::draw_distinct(
        {buckets.data(), cumulative.data(), classes(), &seed, rows, count, targets.data(), ids.data(), nullptr, threads});
    return ids;
  }

  std::vector<math::AliasBucket> buckets;
  std::vector<int64_t> cumulative;
};

// Whether a number is the weight's part of all, but for rounding, and is positive if the weight is.
bool is_part(int64_t found, double weight, double sum, double all) {
  const double right = weight / sum * all;
  return (weight > 0 ? found > 0 : found == 0) && std::fabs(static_cast<double>(found) - right) <= 2 + 1e-9 * right;
}

// Whether buckets and cumulative sums hold the weights.
bool is_exact(const std::vector<double>& weights) {
  const Table table(weights);
  const int64_t classes = table.classes(), bucket_size = int64_t{1} << 32;
  std::vector<int64_t> units(weights.size());
  for (size_t v = 0; v < weights.size(); ++v) {
    const math::AliasBucket& bucket = table.buckets[v];
    units[v] += bucket.share;
    units[static_cast<size_t>(bucket.alias)] += bucket_size - bucket.share;
  }
  double sum = 0;
  for (const double weight : weights) sum += weight;
  const math::WeightLine line{table.cumulative.data(), classes};
  bool exact = table.cumulative.back() == int64_t{1} << 62;
  for (int64_t v = 0; v < classes; ++v) {
    const double weight = weights[static_cast<size_t>(v)];
    exact = exact && is_part(units[static_cast<size_t>(v)], weight, sum, static_cast<double>(classes * bucket_size));
    exact = exact && is_part(line.weight(v), weight, sum, 0x1p62);
  }
  return exact;
}

void test_tables() {
  CHECK(is_exact({1}));
  CHECK(is_exact({1, 0}));
  CHECK(is_exact({0, 0, 1e-200, 0}));
  CHECK(is_exact({1, 1, 1}));
  CHECK(is_exact({1e300, 1e-300, 1e-300, 0, 1}));
  std::vector<double> rising, falling(1000), mixed(1000);
  for (int v = 0; v < 1000; ++v) rising.push_back(std::pow(v, 3.0));
  std::reverse_copy(rising.begin(), rising.end(), falling.begin());
  for (size_t v = 0; v < 1000; ++v) mixed[v] = rising[v * 389 % 1000];
  CHECK(is_exact(rising));
  CHECK(is_exact(falling));
  CHECK(is_exact(mixed));
}

// Counts on both sides of where a hash table and exact draws begin.
void test_all_other_classes_are_drawn_once() {
  for (const int64_t classes : {2, 3, 33, 34, 35, 200}) {
    for (const double power : {0.0, 1.0, 8.0}) {
      std::vector<double> weights;
      for (int64_t v = 0; v < classes; ++v) weights.push_back(std::pow(static_cast<double>(v + 1), -power));
      const Table table(weights);
      constexpr int64_t kRows = 3;
      for (const int64_t target : {int64_t{0}, classes - 1}) {
        std::vector<int64_t> ids = table.draw(7, kRows, classes - 1, target);
        for (int64_t row = 0; row < kRows; ++row) {
          const auto begin = ids.begin() + row * (classes - 1);
          std::sort(begin, begin + classes - 1);
          for (int64_t i = 0; i < classes - 1; ++i) CHECK(begin[i] == i + (i >= target));
        }
      }
    }
  }
}

void test_nothing_left_is_marked() {
  const Table table({0, 1, 0, 2, 0});
  const std::vector<int64_t> ids = table.draw(1, 1, 4, 3);
  CHECK(ids == std::vector<int64_t>({1, -1, -1, -1}));
}

void test_threads_do_not_matter() {
  const Table table({5, 4, 3, 2, 1, 1});
  CHECK(table.draw(3, 1001, 3, 1, 1) == table.draw(3, 1001, 3, 1, 4));
}

void test_sort() {
  for (int64_t count = 0; count < 60; ++count) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<int32_t>(i * 37 % 61));
    math::sort_ascending({values.data(), 1}, count);
    CHECK(std::is_sorted(values.begin(), values.end()));
  }
}

}  // namespace

int main() {
  test_tables();
  test_all_other_classes_are_drawn_once();
  test_nothing_left_is_marked();
  test_threads_do_not_matter();
  test_sort();
  return seqkern::test::failures();
}
