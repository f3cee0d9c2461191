// The softmax loss of logits h W^T + b on the CPU, which never holds more of them than its working memory has room for.
//
// The classes are split into a share for each thread, and a share into blocks: the logits of a block, rows x classes, stay in the
// second-level cache for all that is done to them. For some rows at a time:
//
//   1. the logits of every block, and their sums; if a gradient or ranks follow, the logits are kept
//   2. the sums of a row, merged over the shares
//   3. of every block: the gradient in place, and the products that yield d_weight and d_bias and add to d_hidden
//   4. d_hidden, summed over the shares
//
// With d_numbers, when the sums are known, the logits of a block are computed again and their gradient follows at once.
#pragma once

#include "cpu/gemm.h"
#include "cpu/softmax.h"

namespace seqkern::cpu::SEQKERN_ISA {

constexpr int64_t kClassesInBlock = 256;
constexpr int64_t kRowsAtMost = 1024;  // more at a time would not stay in the caches
constexpr int64_t kFrugalBytes = int64_t{5} << 20;

// The type that products of T are taken in: bfloat16 where the CPU has products of its pairs, else the type of sums.
#if SEQKERN_BFLOAT16_DOT
template <class T>
using Factor = std::conditional_t<std::is_same_v<T, math::BFloat16>, T, math::Sum<T>>;
#else
template <class T>
using Factor = math::Sum<T>;
#endif

// The rows [first, first + count) of a loss, and what all shares of the classes know of them. F: see Factor.
template <class F>
struct RowChunk {
  int64_t first, count;
  const F* hidden;          // [count, H]
  const Packed<F>& packed;  // the same, if d_weight is wanted
};

template <class T>
class LinearSoftmax {
  using S = math::Sum<T>;
  using F = Factor<T>;
  using Chunk = RowChunk<F>;

 public:
  explicit LinearSoftmax(const LinearSoftmaxParams<T>& p) : p_(p), rows_(p) {}

  void run() {
    plan();
    if (p_.d_numbers && !gradient_) return;
    const int64_t H = p_.features;
    const Buffer<S> logits(shares_ * share_size_), d_hidden(p_.d_hidden ? shares_ * chunk_ * H : 0);
    const Buffer<F> d_logits(gradient_ && !kInPlace ? shares_ * chunk_ * block_ : 0), hidden(kConverts ? chunk_ * H : 0);
    const Buffer<F> zeros(p_.d_weight ? H : 0);  // in place of the hidden states of ignored rows, which may hold anything
    if (p_.d_weight) std::memset(static_cast<void*>(zeros.get()), 0, sizeof(F) * static_cast<size_t>(H));
    const Buffer<Sums> sums(p_.d_numbers ? 0 : shares_ * chunk_);
    const Buffer<RowFactors<S>> factors(gradient_ ? chunk_ : 0);
    if (p_.rows == 0) clear();
    logits_ = logits.get(), d_hidden_ = d_hidden.get(), d_logits_ = d_logits.get();
    sums_ = sums.get(), factors_ = factors.get();
    for (int64_t first = 0; first < p_.rows; first += chunk_) {
      const int64_t count = std::min(chunk_, p_.rows - first);
      if constexpr (kConverts)
        in_parallel(count, [&](int64_t i) { convert(p_.hidden + (first + i) * H, hidden.get() + i * H, H); });
      const F* h = hidden.get();
      if constexpr (!kConverts) h = p_.hidden + first * H;
      const Packed<F> packed(p_.d_weight ? count : 0, p_.d_weight ? H : 0);
      if (p_.d_weight)
        parallel(p_.threads, [&](const Worker& worker) {
          pack_rows(packed, worker.part_of(count),
                    [&](int64_t k) -> const F* { return rows_.counts(first + k) ? h + k * H : zeros.get(); });
        });
      take({first, count, h, packed});
    }
    if (!p_.d_numbers && p_.reduction != Reduction::none) rows_.reduce();
  }

 private:
  static constexpr bool kInPlace = std::is_same_v<F, S>;    // whether the gradient of logits takes their place
  static constexpr bool kConverts = !std::is_same_v<F, T>;  // whether hidden is not of the type of products

  // Of a row over a share of the classes.
  struct Sums {
    math::RowSums<double> sums;
    int64_t best = -1;        // the class with the greatest logit,
    bool has_target = false;  // the target's logit, if it is here,
    S target = 0;
    int64_t before = 0;  // and how many classes come before it, if these are asked for
  };

  // How many rows are taken at a time, in blocks of how many classes.
  void plan() {
    gradient_ = p_.d_hidden || p_.d_weight || p_.d_bias;
    keeps_ = !p_.d_numbers && (gradient_ || p_.statistics);
    shares_ = std::max(1, p_.threads);
    const int64_t H = p_.features, width = round_to_lanes<S>(H), vectors = round_to_lanes<S>(p_.classes) / kLanes<S>;
    const int64_t floats = static_cast<int64_t>(sizeof(S)), factors = static_cast<int64_t>(sizeof(F));
    // Blocks whose packed weights take at most a quarter of the working memory, of all threads together.
    const int64_t of_vector = std::max<int64_t>(1, width) * kLanes<S> * factors;
    const int64_t block =
        std::clamp<int64_t>(p_.workspace / 4 / (shares_ * of_vector), 1, kClassesInBlock / kLanes<S>) * kLanes<S>;
    const int64_t largest = (vectors + shares_ - 1) / shares_ * kLanes<S>, blocks = (largest + block - 1) / block;
    block_ = (largest / kLanes<S> + blocks - 1) / blocks * kLanes<S>;
    const int64_t of_share = keeps_ ? blocks * block_ : block_;  // logits of a row
    const int64_t of_row = shares_ * of_share * floats + (p_.d_hidden ? shares_ * H * floats : 0) +
                           (gradient_ && !kInPlace ? shares_ * block_ * factors : 0) + (kConverts ? H * factors : 0) +
                           (p_.d_weight ? width * factors : 0) + shares_ * static_cast<int64_t>(sizeof(Sums)) +
                           static_cast<int64_t>(sizeof(RowFactors<S>));
    // Small problems, too, are to need less memory than their logits would take.
    const int64_t frugal = std::max(p_.rows * p_.classes * floats / 4, kFrugalBytes);
    const int64_t left = p_.workspace - shares_ * block_ / kLanes<S> * of_vector;
    const int64_t most = std::clamp<int64_t>(std::min(left, frugal) / of_row, 1, kRowsAtMost);
    const int64_t chunks = std::max<int64_t>(1, (p_.rows + most - 1) / most);
    constexpr int64_t kRows = tile_rows(kPanelVectors);
    chunk_ = std::min(most, ((p_.rows + chunks - 1) / chunks + kRows - 1) / kRows * kRows);
    share_size_ = chunk_ * of_share;
  }

  void take(const Chunk& chunk) const {
    const int64_t H = p_.features;
    if (p_.d_numbers) {
      in_parallel(chunk.count, [&](int64_t i) { factors_[i] = rows_.factors(chunk.first + i); });
    } else {
      in_parallel(chunk_ * shares_, [&](int64_t i) { sums_[i] = {}; });
      for_each_block([&](int64_t share, Range block, S* z, bool) {
        multiply(chunk, block, z);
        for_each_part(chunk, block, z, [&](int64_t i, const RowPart<S, T>& part) { add_sums(sums_of(share, i), block, part); });
      });
      in_parallel(chunk.count, [&](int64_t i) { merge(chunk, i); });
    }
    if (p_.statistics) {
      for_each_block([&](int64_t share, Range block, const S* z, bool) {
        for_each_part(chunk, block, z, [&](int64_t i, const RowPart<S, T>& part) {
          sums_of(share, i).before += count_before(part, sums_of(0, i).target);
        });
      });
      in_parallel(chunk.count, [&](int64_t i) { set_ranks(chunk, i); });
    }
    if (!gradient_) return;
    for_each_block([&](int64_t share, Range block, S* z, bool first) {
      if (p_.d_numbers) multiply(chunk, block, z);
      const F* const d = gradient(chunk, share, block, z);
      const int64_t size = block.end - block.begin;
      if (p_.d_bias) add_bias(chunk, block, d);
      if (p_.d_weight)
        gemm<F>({0, size}, {d, block_, true}, {product(chunk.packed, p_.d_weight + block.begin * H, H, chunk.first > 0)});
      if (p_.d_hidden) {
        const Packed<F> weight(size, H);
        pack_rows(weight, {0, size}, [&](int64_t k) { return p_.weight + (block.begin + k) * H; });
        gemm<F>({0, chunk.count}, {d, block_}, {product(weight, d_hidden_ + share * chunk_ * H, H, !first)});
      }
    });
    if (p_.d_hidden) in_parallel(chunk.count, [&](int64_t i) { sum_hidden(chunk, i); });
  }

  static Product<F> product(const Packed<F>& b, S* c, int64_t stride, bool accumulate, const S* bias = nullptr) {
    return {b, c, stride, nullptr, bias, 1, 0, accumulate};
  }

  // The gradients of no rows.
  void clear() const {
    if (p_.d_weight) std::fill_n(p_.d_weight, p_.classes * p_.features, S(0));
    if (p_.d_bias) std::fill_n(p_.d_bias, p_.classes, S(0));
  }

  // Calls body(i) for each of `count` rows.
  template <class Body>
  void in_parallel(int64_t count, const Body& body) const {
    parallel(p_.threads, [&](const Worker& worker) {
      const Range mine = worker.part_of(count);
      for (int64_t i = mine.begin; i < mine.end; ++i) body(i);
    });
  }

  // The classes of a share, whole vectors but for the last; there may be none.
  Range classes_of(int64_t share) const {
    const int64_t vectors = round_to_lanes<S>(p_.classes) / kLanes<S>;
    const auto edge = [&](int64_t i) { return std::min(vectors * i / shares_ * kLanes<S>, p_.classes); };
    return {edge(share), edge(share + 1)};
  }

  // Calls body(share, classes, their logits [rows, block_], whether they are the first of the share) for every block.
  template <class Body>
  void for_each_block(const Body& body) const {
    in_parallel(shares_, [&](int64_t share) {
      const Range classes = classes_of(share);
      S* z = logits_ + share * share_size_;
      for (int64_t begin = classes.begin; begin < classes.end; begin += block_) {
        body(share, Range{begin, std::min(begin + block_, classes.end)}, z, begin == classes.begin);
        if (keeps_) z += chunk_ * block_;
      }
    });
  }

  // Calls body(i, part) for the part of a block of each row that counts.
  template <class Body>
  void for_each_part(const Chunk& chunk, Range block, const S* z, const Body& body) const {
    for (int64_t i = 0; i < chunk.count; ++i)
      if (rows_.counts(chunk.first + i))
        body(i, rows_.part(chunk.first + i, block.begin, block.end - block.begin, z + i * block_));
  }

  template <class U, class V>
  static void convert(const U* from, V* to, int64_t count) {
    for_each_vector<S>(0, count, [&](int64_t v, int n) { store_sum(to + v, load_sum(from + v, n), n); });
  }

  // z = h W^T + b of a block.
  void multiply(const Chunk& chunk, Range block, S* z) const {
    const int64_t H = p_.features, size = block.end - block.begin;
    const Packed<F> weight(H, size);
    pack_columns(weight, {0, weight.panels()}, [&](int64_t j) { return p_.weight + (block.begin + j) * H; });
    alignas(kVectorBytes) S bias[kClassesInBlock] = {};  // products read whole vectors
    if (p_.bias) convert(p_.bias + block.begin, bias, size);
    gemm<F>({0, chunk.count}, {chunk.hidden, H}, {product(weight, z, block_, false, p_.bias ? bias : nullptr)});
  }

  Sums& sums_of(int64_t share, int64_t i) const { return sums_[share * chunk_ + i]; }

  void add_sums(Sums& all, Range block, const RowPart<S, T>& part) const {
    const math::RowSums<double> sums = sum_part(part, p_.target.all_classes, p_.statistics, static_cast<S*>(nullptr));
    if (p_.statistics) {
      if (all.best < 0 || sums.peak > all.sums.peak) all.best = block.begin + find(part, static_cast<S>(sums.peak));
      all.has_target |= part.has_target();
      if (part.has_target()) all.target = read_one(part, part.target);
    }
    all.sums.merge(sums);
  }

  // The sums of all shares, in the first one's place, and what follows from them.
  void merge(const Chunk& chunk, int64_t i) const {
    const int64_t r = chunk.first + i;
    if (!rows_.counts(r)) return rows_.set_numbers(r, nullptr);
    Sums& all = sums_of(0, i);
    for (int64_t share = 1; share < shares_; ++share) {
      const Sums& other = sums_of(share, i);
      if (other.best >= 0 && (all.best < 0 || other.sums.peak > all.sums.peak)) all.best = other.best;
      if (other.has_target) all.target = other.target;
      all.has_target |= other.has_target;
      all.sums.merge(other.sums);
    }
    rows_.set_numbers(r, &all.sums);
    if (gradient_) factors_[i] = rows_.factors(all.sums);
  }

  void set_ranks(const Chunk& chunk, int64_t i) const {
    const int64_t r = chunk.first + i;
    if (!rows_.counts(r)) return rows_.set_ranks(r, -1, -1);
    const Sums& all = sums_of(0, i);
    int64_t before = 0;
    for (int64_t share = 0; share < shares_; ++share) before += sums_of(share, i).before;
    rows_.set_ranks(r, all.has_target ? before : -1, all.best);
  }

  // The gradient of a block's logits [rows, block_], in their place if they are of the type of products.
  const F* gradient(const Chunk& chunk, int64_t share, Range block, S* z) const {
    F* d = d_logits_ + share * chunk_ * block_;
    if constexpr (kInPlace) d = z;
    const int64_t size = block.end - block.begin;
    for (int64_t i = 0; i < chunk.count; ++i) {
      if (rows_.counts(chunk.first + i))
        write_gradient(rows_.part(chunk.first + i, block.begin, size, z + i * block_), factors_[i],
                       static_cast<const S*>(nullptr), d + i * block_);
      else
        std::memset(static_cast<void*>(d + i * block_), 0, sizeof(F) * static_cast<size_t>(size));
    }
    return d;
  }

  // Sums of some rows at a time, so that errors do not grow with their number.
  void add_bias(const Chunk& chunk, Range block, const F* d) const {
    constexpr int64_t kRows = 64;
    S* const to = p_.d_bias + block.begin;
    for_each_vector<S>(0, block.end - block.begin, [&](int64_t v, int n) {
      Vec<S> all{};
      for (int64_t begin = 0; begin < chunk.count; begin += kRows) {
        Vec<S> sum{};
        for (int64_t i = begin; i < std::min(begin + kRows, chunk.count); ++i) sum += load_sum(d + i * block_ + v, n);
        all += sum;
      }
      if (chunk.first > 0) all += load_partial(to + v, n);
      store_partial(to + v, all, n);
    });
  }

  void sum_hidden(const Chunk& chunk, int64_t i) const {
    const int64_t H = p_.features;
    T* const to = p_.d_hidden + (chunk.first + i) * H;
    for_each_vector<S>(0, H, [&](int64_t v, int n) {
      Vec<S> sum{};
      for (int64_t share = 0; share < shares_; ++share) {
        const Range classes = classes_of(share);
        if (classes.begin < classes.end) sum += load_partial(d_hidden_ + (share * chunk_ + i) * H + v, n);
      }
      store_sum(to + v, sum, n);
    });
  }

  const LinearSoftmaxParams<T>& p_;
  const Rows<T, LinearSoftmaxParams<T>> rows_;
  bool gradient_ = false;             // whether any is wanted
  bool keeps_ = false;                // whether the logits of all blocks are kept
  int64_t shares_ = 1;                // of the classes
  int64_t block_ = 0;                 // classes in a block, at most
  int64_t chunk_ = 0;                 // rows at a time, at most
  int64_t share_size_ = 0;            // of the logits of a share
  S* logits_ = nullptr;               // [shares, blocks if they are kept, chunk, block]
  F* d_logits_ = nullptr;             // [shares, chunk, block], if not in place
  S* d_hidden_ = nullptr;             // [shares, chunk, H]
  Sums* sums_ = nullptr;              // [shares, chunk]
  RowFactors<S>* factors_ = nullptr;  // [chunk]
};

template <class T>
void linear_softmax_loss(const LinearSoftmaxParams<T>& p) {
  LinearSoftmax<T>(p).run();
}

}  // namespace seqkern::cpu::SEQKERN_ISA
