// Negative sampling on the CPU: what params/negative_sampling.h says, in one parallel region.
//
// Threads take blocks of examples, some hundred scores at a time: rows are gathered while those to come are fetched, a vector's
// worth of products is summed by one transposition, and losses and slopes are computed a vector at a time. What a block's hidden
// states and sparse gradients need is then still in the caches. A dense gradient is filled with zeros meanwhile, and its rows are
// added up in a second pass, after a barrier: each row by one thread, in the order of its uses. So results do not depend on the
// number of threads.
#pragma once

#include "cpu/row_groups.h"
#include "cpu/simd.h"
#include "math/negative_sampling.h"
#include "params/negative_sampling.h"

namespace seqkern::cpu::SEQKERN_ISA {

// Calls body(d, width, lanes) for a row of so many features in as few parts as there are registers for: `width` (known to the
// compiler) vectors from d, of which the last has `lanes` lanes.
template <class S, int kWidest, class Body>
SEQKERN_INLINE void for_each_part(int64_t features, const Body& body) {
  constexpr int64_t kOne = kLanes<S>;
  int64_t d = 0;
  for (; d + kWidest * kOne <= features; d += kWidest * kOne) body(d, std::integral_constant<int, kWidest>(), kLanes<S>);
  const int64_t left = features - d, lanes = left % kOne ? left % kOne : kOne;
  const auto last = [&](auto width) __attribute__((always_inline)) {
    if ((left + kOne - 1) / kOne == width) body(d, width, static_cast<int>(lanes));
  };
  last(std::integral_constant<int, 1>());
  last(std::integral_constant<int, 2>());
  last(std::integral_constant<int, 3>());
  last(std::integral_constant<int, 4>());
  static_assert(kWidest == 4 || kWidest == 8);
  if constexpr (kWidest == 8) {
    last(std::integral_constant<int, 5>());
    last(std::integral_constant<int, 6>());
    last(std::integral_constant<int, 7>());
    last(std::integral_constant<int, 8>());
  }
}

// to = sum of factor(i) row(i) over i < count. Long sums are taken in pieces, lest their rounding errors grow.
template <class S, class Row, class Factor, class To>
void sum_rows(int64_t count, int64_t features, const Row& row, const Factor& factor, To* to) {
  constexpr int64_t kPiece = 64;
  constexpr int kWidest = kVectorBytes == 64 ? 8 : 4;
  for_each_part<S, kWidest>(features, [&](int64_t d, auto width, int lanes) __attribute__((always_inline)) {
    constexpr int kWidth = width, kLast = kWidth - 1;
    Vec<S> total[kWidth] = {};
    for (int64_t first = 0; first < count; first += kPiece) {
      Vec<S> sum[kWidth] = {};
      for (int64_t i = first; i < std::min(count, first + kPiece); ++i) {
        const auto* const from = row(i) + d;
        const S by = factor(i);
        for (int v = 0; v < kLast; ++v) sum[v] += by * load_sum(from + v * kLanes<S>, kLanes<S>);
        sum[kLast] += by * load_sum(from + kLast * kLanes<S>, lanes);
      }
      for (int v = 0; v < kWidth; ++v) total[v] += sum[v];
    }
    for (int v = 0; v < kLast; ++v) store_sum(to + d + v * kLanes<S>, total[v], kLanes<S>);
    store_sum(to + d + kLast * kLanes<S>, total[kLast], lanes);
  });
}

// The products of a and b, element by element, added up over the vectors of a row, but not over their lanes.
template <class S, class A, class B>
SEQKERN_INLINE Vec<S> products(const A* a, const B* b, int64_t features) {
  constexpr int64_t kOne = kLanes<S>, kFour = 4 * kOne;
  Vec<S> sum[4] = {};
  int64_t d = 0;
  for (; d + kFour <= features; d += kFour)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sum[v] += load_sum(a + d + v * kOne, kOne) * load_sum(b + d + v * kOne, kOne);
  for (; d + kOne <= features; d += kOne) sum[0] += load_sum(a + d, kOne) * load_sum(b + d, kOne);
  if (d < features) {
    const int left = static_cast<int>(features - d);
    sum[1] += load_sum(a + d, left) * load_sum(b + d, left);
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// H: the type that hidden states are read in.
template <class T, class H>
class NegativeSampling {
  using S = math::Sum<T>;
  using Params = NegativeSamplingParams<T>;

 public:
  explicit NegativeSampling(const Params& p)
      : p_(p),
        block_(std::max<int64_t>(1, kScores / std::max<int64_t>(1, p.words.each))),
        gradient_(p.d_hidden || p.d_weight.values || p.d_embedding.values),
        means_(p.contexts ? p.examples * p.features : 0),
        shares_(p.contexts ? p.examples : 0),
        d_means_(p.d_embedding.values ? p.examples * p.features : 0),
        slopes_(dense(p.d_weight) ? p.examples * p.words.each : 0) {
    if constexpr (std::is_same_v<H, T>) hidden_ = p.hidden;
    if constexpr (std::is_same_v<H, S>)
      if (p.contexts) hidden_ = means_.get();
  }

  void run() {
    std::atomic<int64_t> next{0};
    parallel(p_.threads, [&](const Worker& worker) {
      if (worker.thread == 0 && dense(p_.d_weight)) group_words();
      if (worker.thread == worker.team - 1 && dense(p_.d_embedding)) group_contexts();
      if (dense(p_.d_weight)) fill(worker, p_.d_weight, p_.size);
      if (dense(p_.d_embedding)) fill(worker, p_.d_embedding, p_.embedding_size);
      Block block(p_, block_);
      for (int64_t first; (first = next.fetch_add(block_, std::memory_order_relaxed)) < p_.examples;)
        take(block, first, std::min(block_, p_.examples - first));
      worker.wait();
      if (dense(p_.d_weight)) {
        const int64_t each = p_.words.each;
        add_up(
            worker, words_, p_.d_weight, [&](int64_t use) { return hidden_ + use / each * p_.features; },
            [&](int64_t use) { return slopes_.get()[use]; });
      }
      if (dense(p_.d_embedding))
        add_up(
            worker, contexts_, p_.d_embedding, [&](int64_t use) { return d_means_.get() + use / p_.context_count * p_.features; },
            [&](int64_t use) { return shares_.get()[use / p_.context_count]; });
    });
    if (p_.loss) {
      double sum = 0;
      for (int64_t b = 0; b < p_.examples; ++b) sum += static_cast<double>(p_.losses[b]);
      *p_.loss = static_cast<S>(sum * scale());
    }
  }

 private:
  static constexpr int64_t kScores = 256;  // of a block of examples
  static constexpr int kOne = kLanes<S>;

  // What a thread needs for a block of examples: their words, with scores and losses, whole vectors of them; and an example's
  // contexts.
  struct Block {
    Block(const Params& p, int64_t examples)
        : count(p.words.each * examples + kOne), ids(count), scores(count), losses(count), contexts(p.context_count) {}
    int64_t count;
    Buffer<int64_t> ids;
    Buffer<S> scores, losses;
    Buffer<int64_t> contexts;
  };

  static bool dense(const RowsGradient<T>& gradient) { return gradient.values && !gradient.rows; }

  // Of an example's loss, in the reduced one.
  double scale() const {
    return p_.reduction == Reduction::mean ? 1.0 / static_cast<double>(std::max<int64_t>(1, p_.examples)) : 1.0;
  }

  int64_t word(int64_t b, int64_t j) const {
    if (p_.words.target && j-- == 0) return p_.words.target[b];
    return p_.words.others[b * p_.words.stride + j];
  }
  const T* vector(int64_t id) const { return p_.weight + id * p_.features; }

  void group_words() {
    int64_t b = 0, j = 0;
    words_.build(p_.examples * p_.words.each, p_.size, [&](int64_t) {
      const int64_t id = word(b, j);
      if (++j == p_.words.each) j = 0, ++b;
      return id;
    });
  }

  void group_contexts() {
    contexts_.build(p_.examples * p_.context_count, p_.embedding_size,
                    [&](int64_t i) { return p_.contexts[i] == p_.padding ? -1 : p_.contexts[i]; });
  }

  void fill(const Worker& worker, const RowsGradient<T>& gradient, int64_t rows) const {
    const Range mine = worker.part_of(rows);
    std::memset(static_cast<void*>(gradient.values + mine.begin * p_.features), 0,
                sizeof(T) * static_cast<size_t>((mine.end - mine.begin) * p_.features));
  }

  void take(Block& block, int64_t first, int64_t count) {
    if (p_.contexts) average(block, first, count);
    const int64_t scores = count * p_.words.each;
    int64_t* const ids = block.ids.get();
    int64_t known = 0;  // ids of the block, and a vector's worth of those that follow it
    for (int64_t b = first; b < p_.examples && known < scores + kOne; ++b)
      for (int64_t j = 0; j < p_.words.each && known < scores + kOne; ++j) ids[known++] = word(b, j);
    S* const slopes = block.scores.get();
    if (p_.d_scores) {
      for (int64_t i = 0; i < scores; i += kOne) {
        const int lanes = lanes_of(scores - i);
        store_partial(slopes + i, load_sum(p_.d_scores + first * p_.words.each + i, lanes), lanes);
      }
    } else {
      score(first, scores, ids, known, slopes);
      if (p_.scores)
        for (int64_t i = 0; i < scores; i += kOne)
          store_sum(p_.scores + first * p_.words.each + i, load(slopes + i), lanes_of(scores - i));
      else
        lose(block, first, count);
    }
    if (gradient_) differentiate(first, count, ids, slopes);
  }

  static int lanes_of(int64_t left) { return static_cast<int>(std::min<int64_t>(kOne, left)); }

  // The means of the rows that the contexts name.
  void average(Block& block, int64_t first, int64_t count) {
    int64_t* const ids = block.contexts.get();
    for (int64_t b = first; b < first + count; ++b) {
      const int64_t* const given = p_.contexts + b * p_.context_count;
      int64_t there = 0;
      for (int64_t c = 0; c < p_.context_count; ++c)
        if (given[c] != p_.padding) ids[there++] = given[c];
      const S share = there ? 1 / static_cast<S>(there) : 0;
      shares_.get()[b] = share;
      sum_rows<S>(
          there, p_.features, [&](int64_t i) { return p_.embedding + ids[i] * p_.features; }, [&](int64_t) { return share; },
          means_.get() + b * p_.features);
    }
  }

  // Scores of the block's words, a vector of them at a time; the last vector is filled up with anything.
  void score(int64_t first, int64_t count, const int64_t* ids, int64_t known, S* scores) const {
    int64_t b = first, j = 0;
    for (int64_t i = 0; i < count; i += kOne) {
      Vec<S> rows[kOne] = {};
      for (int64_t k = 0; k < lanes_of(count - i); ++k) {
        if (i + k + kOne < known) prefetch(vector(ids[i + k + kOne]));
        rows[k] = products<S>(hidden_ + b * p_.features, vector(ids[i + k]), p_.features);
        if (++j == p_.words.each) j = 0, ++b;
      }
      transpose<S>(rows);
#pragma GCC unroll 4
      for (int half = kOne / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int k = 0; k < half; ++k) rows[k] += rows[k + half];
      store(scores + i, rows[0]);
    }
  }

  void prefetch(const T* row) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T)), kMostLines = 16;
    for (int64_t d = 0; d < std::min(p_.features, kMostLines * kLine); d += kLine) __builtin_prefetch(row + d);
  }

  // Turns scores into the gradients of the loss, and writes the examples' losses.
  void lose(Block& block, int64_t first, int64_t count) const {
    S *const scores = block.scores.get(), *const losses = block.losses.get();
    const int64_t each = p_.words.each;
    if (p_.words.target)
      for (int64_t b = 0; b < count; ++b) scores[b * each] = -scores[b * each];
    for (int64_t i = 0; i < count * each; i += kOne) {
      const auto pair = math::pair_loss(load(scores + i));
      store(scores + i, pair.slope);
      store(losses + i, pair.loss);
    }
    for (int64_t b = 0; b < count; ++b) {
      const S* const of_words = losses + b * each;
      if (p_.losses) p_.losses[first + b] = static_cast<S>(std::accumulate(of_words, of_words + each, 0.0));
      if (!gradient_) continue;
      const S by = p_.d_losses ? p_.d_losses[first + b] : static_cast<S>(scale());
      S* const slopes = scores + b * each;
      if (p_.words.target) slopes[0] = -slopes[0];
      for (int64_t j = 0; j < each; ++j) slopes[j] *= by;
    }
  }

  void differentiate(int64_t first, int64_t count, const int64_t* ids, const S* slopes) {
    const int64_t each = p_.words.each, features = p_.features;
    if (slopes_.get()) std::copy_n(slopes, count * each, slopes_.get() + first * each);
    for (int64_t b = first; b < first + count; ++b, ids += each, slopes += each) {
      const auto row = [&](int64_t j) { return vector(ids[j]); };
      const auto slope = [&](int64_t j) { return slopes[j]; };
      if (p_.d_hidden) sum_rows<S>(each, features, row, slope, p_.d_hidden + b * features);
      if (d_means_.get()) sum_rows<S>(each, features, row, slope, d_means_.get() + b * features);
      if (p_.d_weight.rows) {
        for (int64_t j = 0; j < each; ++j) {
          p_.d_weight.rows[b * each + j] = ids[j];
          multiply(hidden_ + b * features, slopes[j], p_.d_weight.values + (b * each + j) * features);
        }
      }
      if (p_.d_embedding.rows) spread(b);
    }
  }

  template <class From>
  void multiply(const From* from, S by, T* to) const {
    int64_t d = 0;
    for (; d + kOne <= p_.features; d += kOne) store_sum(to + d, by * load_sum(from + d, kOne), kOne);
    if (d < p_.features) {
      const int left = static_cast<int>(p_.features - d);
      store_sum(to + d, by * load_sum(from + d, left), left);
    }
  }

  // The sparse gradient of an example's contexts. Padding adds nothing to a row that has a gradient anyway.
  void spread(int64_t b) const {
    const int64_t* const given = p_.contexts + b * p_.context_count;
    for (int64_t c = 0; c < p_.context_count; ++c) {
      const bool there = given[c] != p_.padding;
      p_.d_embedding.rows[b * p_.context_count + c] = there ? given[c] : p_.d_embedding.spare;
      T* const values = p_.d_embedding.values + (b * p_.context_count + c) * p_.features;
      if (there)
        multiply(d_means_.get() + b * p_.features, shares_.get()[b], values);
      else
        std::memset(static_cast<void*>(values), 0, sizeof(T) * static_cast<size_t>(p_.features));
    }
  }

  template <class Row, class Factor>
  void add_up(const Worker& worker, const RowGroups& groups, const RowsGradient<T>& gradient, const Row& row,
              const Factor& factor) const {
    const Range mine = groups.part_of(worker);
    for (int64_t g = mine.begin; g < mine.end; ++g)
      sum_rows<S>(
          groups.uses(g), p_.features, [&](int64_t i) { return row(groups.use(g, i)); },
          [&](int64_t i) { return factor(groups.use(g, i)); }, gradient.values + groups.row(g) * p_.features);
  }

  const Params& p_;
  const int64_t block_;  // examples
  const bool gradient_;
  const H* hidden_ = nullptr;  // [B, D]
  Buffer<S> means_, shares_;   // [B, D] hidden states; [B] one over the number of contexts
  Buffer<S> d_means_;          // [B, D]
  Buffer<S> slopes_;           // [B, N] gradients of scores
  RowGroups words_, contexts_;
};

template <class T>
void negative_sampling(const NegativeSamplingParams<T>& p) {
  if (p.contexts)
    NegativeSampling<T, math::Sum<T>>(p).run();
  else
    NegativeSampling<T, T>(p).run();
}

}  // namespace seqkern::cpu::SEQKERN_ISA
