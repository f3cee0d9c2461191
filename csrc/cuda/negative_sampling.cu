// Negative sampling on CUDA: what params/negative_sampling.h says.
//
// A block takes an example. Its warps take the words, whose products with the hidden state are summed over lanes; then its
// threads lie along the features, for the gradients. A dense gradient is added up afterwards, from uses sorted by row: a block
// takes a row.
//
// All sums run in an order fixed by the sizes: results are the same bits in every run.
#include "cuda/negative_sampling.h"

#include <cmath>

#include "cuda/reduce.cuh"
#include "math/negative_sampling.h"

namespace seqkern::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kReduceThreads = 512;

template <class T>
struct ExamplesParams {
  NegativeSamplingParams<T> p;
  NegativeSamplingMemory<T> memory;
};

template <class V>
SEQKERN_DEVICE V block_sum(V value) {
  return block_reduce(value, V(0), [](V a, V b) { return a + b; });
}

SEQKERN_DEVICE bool inside(int64_t id, int64_t size) { return id >= 0 && id < size; }

// One example, of a kernel on examples.
template <class T>
struct Example {
  using S = Sum<T>;

  const NegativeSamplingParams<T>& p;
  const NegativeSamplingMemory<T>& memory;
  int64_t b;
  int64_t there = 0;     // contexts
  bool valid = true;     // whether all of its ids are in range
  const T* h = nullptr;  // [D]; or, with contexts,
  const S* mean = nullptr;

  SEQKERN_DEVICE int64_t word(int64_t j) const {
    if (p.words.target) {
      if (j == 0) return p.words.target[b];
      --j;
    }
    return p.words.others[b * p.words.stride + j];
  }
  SEQKERN_DEVICE int64_t context(int64_t c) const { return p.contexts[b * p.context_count + c]; }
  SEQKERN_DEVICE S hidden(int64_t d) const { return mean ? mean[d] : to_sum(h[d]); }
  SEQKERN_DEVICE int64_t use(int64_t j) const { return b * p.words.each + j; }

  // Counts contexts, and looks at the ids of a loss.
  SEQKERN_DEVICE void check() {
    int64_t wrong = 0, count = 0;
    if (p.words.target)
      for (int64_t j = thread_index(); j < p.words.each; j += block_size()) wrong += !inside(word(j), p.size);
    for (int64_t c = thread_index(); p.contexts && c < p.context_count; c += block_size()) {
      const int64_t id = context(c);
      if (id == p.padding) continue;
      ++count;
      wrong += !inside(id, p.embedding_size);
    }
    valid = block_sum(wrong) == 0;
    there = block_sum(count);
  }

  SEQKERN_DEVICE void average() {
    const S share = there ? 1 / static_cast<S>(there) : S(0);
    S* const to = memory.means + b * p.features;
    for (int64_t d = thread_index(); d < p.features; d += block_size()) {
      S sum = 0;
      for (int64_t c = 0; valid && c < p.context_count; ++c)
        if (context(c) != p.padding) sum += to_sum(p.embedding[context(c) * p.features + d]);
      to[d] = sum * share;
    }
    if (thread_index() == 0) memory.shares[b] = share;
    sync_block();
  }

  // Scores and losses, and the slopes, by warps.
  SEQKERN_DEVICE void score(S factor) const {
    for (int64_t j = warp_index(); j < p.words.each; j += block_size() / kWarpSize) {
      const int64_t id = word(j);
      const bool good = valid && inside(id, p.size);
      S sum = 0;
      if (!p.d_scores) {
        for (int64_t d = lane_index(); good && d < p.features; d += kWarpSize)
          sum += hidden(d) * to_sum(p.weight[id * p.features + d]);
        sum = warp_reduce(sum, [](S a, S b) { return a + b; });
      }
      if (lane_index() != 0) continue;
      if (p.scores) {
        from_sum(good ? sum : static_cast<S>(NAN), p.scores[use(j)]);
      } else if (p.d_scores) {
        memory.slopes[use(j)] = good ? to_sum(p.d_scores[use(j)]) : S(0);
      } else {
        const bool seen = p.words.target && j == 0;
        const auto pair = math::pair_loss(seen ? -sum : sum);
        if (p.losses) memory.word_losses[use(j)] = good ? pair.loss : static_cast<S>(NAN);
        memory.slopes[use(j)] = good ? (seen ? -pair.slope : pair.slope) * factor : S(0);
      }
    }
    sync_block();
  }

  SEQKERN_DEVICE void lose() const {
    if (thread_index() != 0) return;
    S sum = 0;
    for (int64_t j = 0; j < p.words.each; ++j) sum += memory.word_losses[use(j)];
    p.losses[b] = sum;
  }

  SEQKERN_DEVICE void differentiate() const {
    for (int64_t d = thread_index(); d < p.features; d += block_size()) {
      S sum = 0;
      for (int64_t j = 0; j < p.words.each; ++j)
        if (inside(word(j), p.size)) sum += memory.slopes[use(j)] * to_sum(p.weight[word(j) * p.features + d]);
      if (!valid) sum = static_cast<S>(NAN);
      if (p.d_hidden) from_sum(sum, p.d_hidden[b * p.features + d]);
      if (memory.d_means) memory.d_means[b * p.features + d] = sum;
    }
  }

  SEQKERN_DEVICE void scatter_words() const {
    for (int64_t j = thread_index(); j < p.words.each; j += block_size()) {
      const bool good = inside(word(j), p.size);
      if (memory.word_rows) memory.word_rows[use(j)] = valid && good ? word(j) : p.size;
      if (p.d_weight.rows) p.d_weight.rows[use(j)] = good ? word(j) : 0;
    }
    if (!p.d_weight.values) return;
    for (int64_t i = thread_index(); i < p.words.each * p.features; i += block_size()) {
      const int64_t j = i / p.features;
      const bool good = valid && inside(word(j), p.size);
      const S value = good ? memory.slopes[use(j)] * hidden(i % p.features) : S(0);
      from_sum(value, p.d_weight.values[b * p.words.each * p.features + i]);
    }
  }

  SEQKERN_DEVICE void scatter_contexts() const {
    const int64_t first = b * p.context_count;
    for (int64_t c = thread_index(); c < p.context_count; c += block_size()) {
      const bool good = context(c) != p.padding && inside(context(c), p.embedding_size);
      if (memory.context_rows) memory.context_rows[first + c] = valid && good ? context(c) : p.embedding_size;
      if (p.d_embedding.rows) p.d_embedding.rows[first + c] = good ? context(c) : *memory.spare;
    }
    if (!p.d_embedding.values) return;
    for (int64_t i = thread_index(); i < p.context_count * p.features; i += block_size()) {
      const bool good = valid && context(i / p.features) != p.padding;
      // What this thread reads of d_means, it has perhaps not written.
      const S value = good ? memory.shares[b] * memory.d_means[b * p.features + i % p.features] : S(0);
      from_sum(value, p.d_embedding.values[first * p.features + i]);
    }
  }
};

template <class T>
SEQKERN_KERNEL(kThreads, 8)  // ptxas would spill for more blocks
examples(ExamplesParams<T> all) {
  using S = Sum<T>;
  const NegativeSamplingParams<T>& p = all.p;
  for (int64_t b = block_index(); b < p.examples; b += block_count()) {
    Example<T> example{p, all.memory, b};
    example.check();
    if (p.contexts) {
      example.average();
      example.mean = all.memory.means + b * p.features;
    } else {
      example.h = p.hidden + b * p.features;
    }
    S factor = 1;
    if (p.d_losses)
      factor = p.d_losses[b];
    else if (p.reduction == Reduction::mean)
      factor = 1 / static_cast<S>(p.examples);
    example.score(factor);
    if (p.losses) example.lose();
    if (p.d_hidden || all.memory.d_means) example.differentiate();
    if (all.memory.word_rows || p.d_weight.values) example.scatter_words();
    if (p.contexts && (all.memory.context_rows || p.d_embedding.values)) {
      sync_block();
      example.scatter_contexts();
    }
  }
}

template <class T>
SEQKERN_KERNEL(kReduceThreads)
reduce_losses(NegativeSamplingParams<T> p) {
  using S = Sum<T>;
  S sum = 0;
  for (int64_t b = thread_index(); b < p.examples; b += block_size()) sum += p.losses[b];
  sum = block_sum(sum);
  if (p.reduction == Reduction::mean && p.examples > 0) sum /= static_cast<S>(p.examples);
  if (thread_index() == 0) *p.loss = sum;
}

template <class T>
SEQKERN_KERNEL(kThreads)
add_rows(AddRowsParams<T> p) {
  using S = Sum<T>;
  for (int64_t first = block_index(); first < p.uses; first += block_count()) {
    const int64_t row = p.rows[first];
    if (row >= p.size || (first > 0 && p.rows[first - 1] == row)) continue;
    for (int64_t d = thread_index(); d < p.features; d += block_size()) {
      S sum = 0;
      for (int64_t i = first; i < p.uses && p.rows[i] == row; ++i) {
        const int64_t use = p.order[i], b = use / p.each, at = b * p.features + d;
        sum += p.factors[p.factor_each ? use : b] * (p.from ? to_sum(p.from[at]) : p.sums[at]);
      }
      from_sum(sum, p.to[row * p.features + d]);
    }
  }
}

}  // namespace

template <class T>
cudaError_t launch_sampling_examples(const NegativeSamplingParams<T>& p, const NegativeSamplingMemory<T>& memory,
                                     cudaStream_t stream) {
  if (p.examples == 0) return cudaSuccess;  // a grid must not be empty
  return launch(examples<T>, {{p.examples, 1}, kThreads, stream}, ExamplesParams<T>{p, memory});
}

template <class T>
cudaError_t launch_sampling_losses(const NegativeSamplingParams<T>& p, cudaStream_t stream) {
  return launch(reduce_losses<T>, {{1, 1}, kReduceThreads, stream}, p);
}

template <class T>
cudaError_t launch_add_rows(const AddRowsParams<T>& p, cudaStream_t stream) {
  if (p.uses == 0) return cudaSuccess;
  return launch(add_rows<T>, {{p.uses, 1}, kThreads, stream}, p);
}

#define SEQKERN_INSTANTIATE(T)                                                                                      \
  template cudaError_t launch_sampling_examples(const NegativeSamplingParams<T>&, const NegativeSamplingMemory<T>&, \
                                                cudaStream_t);                                                      \
  template cudaError_t launch_sampling_losses(const NegativeSamplingParams<T>&, cudaStream_t);                      \
  template cudaError_t launch_add_rows(const AddRowsParams<T>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(math::Float16)

}  // namespace seqkern::cuda
