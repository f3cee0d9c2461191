// Draws of classes on the CPU.
//
// A bucket of a large table is a cache miss. So draws are made some at a time: first all their random numbers, which say which
// buckets will be read and are prefetched, then the classes.
#include "cpu/sampling.h"

#include <algorithm>

#include "cpu/buffer.h"
#include "cpu/parallel.h"
#include "math/distinct_draws.h"

namespace seqkern::cpu {

namespace {

constexpr int64_t kDrawsAtOnce = 128;
constexpr int64_t kWholeBucket = int64_t{1} << 32;

void prefetch(const math::AliasBucket* buckets, int64_t classes, uint64_t random) {
  __builtin_prefetch(buckets + math::multiply_high(random, static_cast<uint64_t>(classes)));
}

// Weights as whole numbers of the sum `all`. What rounding takes from one, the next gets.
void quantize(const double* weights, int64_t classes, int64_t all, int64_t* units) {
  double sum = 0, lost = 0;  // Kahan's sum
  int64_t positive = 0, largest = 0;
  for (int64_t v = 0; v < classes; ++v) {
    const double term = weights[v] - lost, next = sum + term;
    lost = (next - sum) - term;
    sum = next;
    positive += weights[v] > 0;
    if (weights[v] > weights[largest]) largest = v;
  }
  const double scale = static_cast<double>(all - positive) / sum;
  int64_t left = all;
  double carry = 0;
  for (int64_t v = 0; v < classes; ++v) {
    const double wanted = weights[v] * scale + carry;
    const auto whole = static_cast<int64_t>(wanted);
    const bool there = weights[v] > 0;
    if (there) carry = wanted - static_cast<double>(whole);
    units[v] = there ? whole + 1 : 0;
    left -= units[v];
  }
  units[largest] += left;  // rounding errors, a tiny part of it
}

}  // namespace

// Vose 1991, in whole numbers, so that no rounding error is left at the end; without its lists: `large` goes over the classes
// once, and a class behind the current one that is no longer large is the next to be filled.
void make_alias_table(const double* weights, int64_t classes, math::AliasBucket* buckets, int64_t* cumulative) {
  int64_t* const units = cumulative;
  quantize(weights, classes, classes * kWholeBucket, units);
  for (int64_t v = 0; v < classes; ++v) buckets[v] = {0, static_cast<int32_t>(v)};
  int64_t large = 0;
  for (int64_t v = 0; v < classes; ++v) {
    int64_t small = v;
    while (units[small] < kWholeBucket) {
      while (units[large] < kWholeBucket) ++large;
      buckets[small] = {static_cast<uint32_t>(units[small]), static_cast<int32_t>(large)};
      units[large] -= kWholeBucket - units[small];
      if (large > v) break;
      small = large;
    }
  }
  quantize(weights, classes, int64_t{1} << 62, cumulative);
  for (int64_t v = 1; v < classes; ++v) cumulative[v] += cumulative[v - 1];
}

void draw_alias(const AliasDrawsParams& p) {
  constexpr int64_t kPairs = kDrawsAtOnce / 2;
  parallel(p.threads, [&](const Worker& worker) {
    const uint64_t seed = *p.seed;
    const Range blocks = worker.part_of((p.count + kDrawsAtOnce - 1) / kDrawsAtOnce);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      uint64_t random[kDrawsAtOnce];
      for (int64_t i = 0; i < kPairs; ++i) {
        const math::PhiloxPair pair = math::philox_pair(seed, static_cast<uint64_t>(block * kPairs + i), 0);
        for (int64_t half = 0; half < 2; ++half) {
          random[2 * i + half] = pair.at[half];
          prefetch(p.buckets, p.classes, pair.at[half]);
        }
      }
      int64_t* const ids = p.ids + block * kDrawsAtOnce;
      const int64_t count = std::min(kDrawsAtOnce, p.count - block * kDrawsAtOnce);
      for (int64_t i = 0; i < count; ++i) ids[i] = math::draw_alias(p.buckets, p.classes, random[i]);
    }
  });
}

void draw_distinct(const DistinctDrawsParams& p) {
  const math::WeightLine line{p.cumulative, p.classes};
  const int64_t rows_at_once = std::max<int64_t>(1, kDrawsAtOnce / std::max<int64_t>(p.count, 1));
  const int64_t ahead = std::min(p.count, kDrawsAtOnce);  // draws of a row whose buckets are prefetched
  parallel(p.threads, [&](const Worker& worker) {
    const uint64_t seed = *p.seed;
    const Buffer<int32_t> workspace(math::distinct_workspace(p.count));
    const Range rows = worker.part_of(p.rows);
    for (int64_t first = rows.begin; first < rows.end; first += rows_at_once) {
      const int64_t end = std::min(first + rows_at_once, rows.end);
      for (int64_t row = first; row < end; ++row) {
        for (int64_t attempt = 0; attempt < ahead; attempt += 2) {
          const math::PhiloxPair pair = math::philox_pair(seed, static_cast<uint64_t>(row), static_cast<uint64_t>(attempt / 2));
          for (int64_t half = 0; half < 2; ++half) prefetch(p.buckets, p.classes, pair.at[half]);
        }
      }
      for (int64_t row = first; row < end; ++row)
        math::draw_distinct(p.buckets, line, seed, row, p.target[row], p.count, p.ids + row * p.count, {workspace.get(), 1});
    }
  });
}

}  // namespace seqkern::cpu
