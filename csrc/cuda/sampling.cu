// Draws of classes on CUDA: the numbers that the CPU draws, since all but the order of work is in math/.
#include "cuda/sampling.h"

#include "cuda/device.cuh"
#include "math/distinct_draws.h"

namespace seqkern::cuda {
namespace {

constexpr int kThreads = 128;

// A thread draws the two classes of one counter.
SEQKERN_KERNEL(kThreads, 8)
draw_alias(AliasDrawsParams p) {
  const uint64_t seed = *p.seed;
  const int64_t pairs = (p.count + 1) / 2;
  for (int64_t i = block_index() * block_size() + thread_index(); i < pairs; i += block_count() * block_size()) {
    const math::PhiloxPair pair = math::philox_pair(seed, static_cast<uint64_t>(i), 0);
    p.ids[2 * i] = math::draw_alias(p.buckets, p.classes, pair.at[0]);
    if (2 * i + 1 < p.count) p.ids[2 * i + 1] = math::draw_alias(p.buckets, p.classes, pair.at[1]);
  }
}

// A thread draws a row.
SEQKERN_KERNEL(kThreads, 8)
draw_distinct(DistinctDrawsParams p) {
  const uint64_t seed = *p.seed;
  const math::WeightLine line{p.cumulative, p.classes};
  for (int64_t row = block_index() * block_size() + thread_index(); row < p.rows; row += block_count() * block_size())
    math::draw_distinct(p.buckets, line, seed, row, p.target[row], p.count, p.ids + row * p.count, {p.workspace + row, p.rows});
}

Launch for_each(int64_t items, cudaStream_t stream) { return {{(items + kThreads - 1) / kThreads, 1}, kThreads, stream}; }

}  // namespace

cudaError_t launch_draw_alias(const AliasDrawsParams& p, cudaStream_t stream) {
  if (p.count == 0) return cudaSuccess;  // a grid must not be empty
  return launch(draw_alias, for_each((p.count + 1) / 2, stream), p);
}

cudaError_t launch_draw_distinct(const DistinctDrawsParams& p, cudaStream_t stream) {
  if (p.rows == 0 || p.count == 0) return cudaSuccess;
  return launch(draw_distinct, for_each(p.rows, stream), p);
}

}  // namespace seqkern::cuda
