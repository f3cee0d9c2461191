// The softmax loss on CUDA: what math/softmax.h says of each row, and the gradient, in one call.
//
// A block takes a row. It reads the row once for the greatest logit and all sums together: each thread moves its sums to another
// base whenever its peak grows. The gradient reads the row again: from shared memory, where the first pass left it if two such
// blocks fit a multiprocessor; else from the caches, backwards, since what was read last is the likeliest to be there still.
//
// d_logits may be the logits: all reads of the first pass come before a barrier, and in the second a thread writes what it alone
// has just read.
//
// All sums run in an order fixed by the sizes: results are the same bits in every run. NaN and +inf go the way of IEEE
// arithmetic: the row's numbers become NaN, as in torch. What has no weight counts 0, even where its logit is -inf.
#include "cuda/softmax.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "cuda/reduce.cuh"
#include "math/softmax.h"

namespace seqkern::cuda {
namespace {

using math::RowGradient;
using math::RowSums;

constexpr int kMaxThreads = 1024;
// Of kernels on rows: as many as leave each thread the registers it needs.
template <class T>
constexpr int kPlainThreads = sizeof(T) == 8 ? 512 : 1024;
template <class T>
constexpr int kPlainBlocks = sizeof(T) == 8 ? 1 : 2;  // of a multiprocessor
template <class T>
constexpr int kGeneralThreads = sizeof(T) == 8 ? 256 : 512;
constexpr int kGeneralBlocks = 2;

template <class T>
struct RowsParams {
  SoftmaxParams<T> p;
  bool keep;  // the row in dynamic shared memory
};

template <class V>
constexpr V kLowest = -std::numeric_limits<V>::infinity();
template <class V>
constexpr V kNaN = std::numeric_limits<V>::quiet_NaN();
constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();

template <class V>
SEQKERN_DEVICE V block_sum(V value) {
  return block_reduce(value, V(0), [](V a, V b) { return a + b; });
}

template <class V>
SEQKERN_DEVICE V block_max(V value) {
  return block_reduce(value, kLowest<V>, [](V a, V b) { return a > b ? a : b; });
}

// The first class of those that the threads propose; -1 where all propose kNowhere.
SEQKERN_DEVICE int64_t block_first(int64_t v) {
  v = block_reduce(v, kNowhere, [](int64_t a, int64_t b) { return a < b ? a : b; });
  return v == kNowhere ? -1 : v;
}

// exp of what ends in a tensor of T, or is summed like it.
template <class T>
SEQKERN_DEVICE Sum<T> exp_of(Sum<T> x) {
  if constexpr (sizeof(T) == 2)
    return fast_exp(x);
  else
    return math::exp_value(x);
}

// What to subtract: the peak, but of a row of -inf alone 0, so that exp yields 0 and not NaN.
template <class S>
SEQKERN_DEVICE S base_of(S peak) {
  return peak == kLowest<S> ? S(0) : peak;
}

// A row as the threads of a block share it: vectors of kWidth elements where it is aligned to them, [begin, end), and single
// elements before and after.
template <int kWidth>
struct RowWalk {
  int64_t past, size, begin, end;  // past: elements from the last aligned place to the row

  template <class T>
  SEQKERN_DEVICE RowWalk(const T* row, int64_t row_size)
      : past(static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % kWidth)), size(row_size) {
    const int64_t before = past == 0 ? 0 : kWidth - past;
    begin = before < size ? before : size;
    end = begin + (size - begin) / kWidth * kWidth;
  }

  // Calls body(v, n) for the thread's parts of the row: n (known to the compiler) elements from v.
  template <class Body>
  SEQKERN_DEVICE void forwards(const Body& body) const {
    for (int64_t v = begin + thread_index() * kWidth; v < end; v += block_size() * kWidth) body(v, Count<kWidth>());
    single_elements(body);
  }

  // As forwards, but from the end of the row; a thread's parts are others.
  template <class Body>
  SEQKERN_DEVICE void backwards(const Body& body) const {
    single_elements(body);
    for (int64_t v = end - (thread_index() + 1) * kWidth; v >= begin; v -= block_size() * kWidth) body(v, Count<kWidth>());
  }

 private:
  template <int n>
  using Count = std::integral_constant<int, n>;

  template <class Body>
  SEQKERN_DEVICE void single_elements(const Body& body) const {
    for (int64_t v = thread_index(); v < begin; v += block_size()) body(v, Count<1>());
    for (int64_t v = end + thread_index(); v < size; v += block_size()) body(v, Count<1>());
  }
};

// Two passes over a row of logits, which call body(v, n, x) with n logits x from v.
template <class T, int kWidth>
struct LogitRow {
  const T* row;
  T* kept;  // the row in shared memory, aligned as it is in global memory; or null
  RowWalk<kWidth> walk;

  SEQKERN_DEVICE LogitRow(const SoftmaxParams<T>& p, int64_t r, bool keep) : row(p.logits + r * p.classes), walk(row, p.classes) {
    kept = keep ? reinterpret_cast<T*>(dynamic_shared()) + walk.past : nullptr;
  }

  template <class Body>
  SEQKERN_DEVICE void first_pass(const Body& body) const {
    walk.forwards([&](int64_t v, auto count) SEQKERN_INLINE {
      const auto packed = load_packed<count>(row + v);
      if (kept) store_packed(kept + v, packed);
      body(v, count, unpack(packed));
    });
  }

  // A thread finds in shared memory what it has put there itself.
  template <class Body>
  SEQKERN_DEVICE void second_pass(const Body& body) const {
    if (kept)
      walk.forwards([&](int64_t v, auto count) SEQKERN_INLINE { body(v, count, unpack(load_packed<count>(kept + v))); });
    else
      walk.backwards([&](int64_t v, auto count) SEQKERN_INLINE { body(v, count, unpack(load_packed<count>(row + v))); });
  }
};

// What a row is held against.
enum class RowState { counted, ignored, invalid };
struct RowTarget {
  RowState state = RowState::counted;
  int64_t at = -1;  // of the classes here; -1: absent, or there are probabilities

  template <class T>
  SEQKERN_DEVICE RowTarget(const SoftmaxTarget<T>& t, int64_t classes, int64_t r) {
    if (!t.target) return;
    const int64_t target = t.target[r];
    if (target == t.ignore_index)
      state = RowState::ignored;
    else if (target < 0 || target >= t.all_classes)
      state = RowState::invalid;
    else if (target >= t.first_class && target - t.first_class < classes)
      at = target - t.first_class;
  }
};

template <class T>
SEQKERN_DEVICE Sum<T> weight_of(const SoftmaxTarget<T>& t, int64_t v) {
  return t.class_weight ? t.class_weight[v] : Sum<T>(1);
}

// The gradient of the loss with respect to a row's loss.
template <class T>
SEQKERN_DEVICE Sum<T> loss_scale(const SoftmaxParams<T>& p) {
  const Sum<T> denominator = *p.denominator;
  return denominator == 0 ? Sum<T>(0) : 1 / denominator;
}

// Writes all that there is of a row that does not count, or whose target is invalid.
template <int kWidth, class T>
SEQKERN_DEVICE void leave_uncounted(const SoftmaxParams<T>& p, int64_t r, RowState state) {
  const Sum<T> value = state == RowState::ignored ? Sum<T>(0) : kNaN<Sum<T>>;
  if (thread_index() == 0) {
    for (int i = 0; i < math::kRowNumbers && !p.d_numbers; ++i) p.numbers[i * p.stride + r] = value;
    for (int i = 0; i < 2 && p.statistics; ++i) p.ranks[i * p.stride + r] = -1;
  }
  if (!p.d_logits) return;
  T* const d_row = p.d_logits + r * p.classes;
  RowWalk<kWidth>(d_row, p.classes).forwards([&](int64_t v, auto count) {
    Vector<Sum<T>, count> x;
    for (int i = 0; i < count; ++i) x.at[i] = value;
    store_streaming(d_row + v, x);
  });
}

// Blocks take rows until none is left. body(r, target) is called for those that count; between two of them, no thread of the
// block is still at the first one's shared memory.
template <int kWidth, class T, class Body>
SEQKERN_DEVICE void for_each_row(const SoftmaxParams<T>& p, const Body& body) {
  for (int64_t r = block_index(); r < p.rows; r += block_count()) {
    if (r != block_index()) sync_block();
    const RowTarget target(p.target, p.classes, r);
    if (target.state == RowState::counted)
      body(r, target.at);
    else
      leave_uncounted<kWidth>(p, r, target.state);
  }
}

// 1 / sum_v exp(z_v - base). Always by the logarithm, which is all that a later backward knows: what it yields has the bits of
// the gradient that comes with the loss.
template <class S>
SEQKERN_DEVICE S factor_of(S log_sum) {
  return math::exp_value(-log_sum);
}

// --- rows without options ---

// Whether the loss is -log softmax(x)[target], and no more is asked for.
template <class T>
bool is_plain(const SoftmaxParams<T>& p) {
  const SoftmaxTarget<T>& t = p.target;
  const auto& o = t.options;
  return t.target && !t.class_weight && !p.d_numbers && !p.statistics && t.all_classes == p.classes && o.smoothing == 0 &&
         o.z_loss == 0 && o.cap == 0 && o.scale == 1;
}

template <class T, int kWidth>
SEQKERN_KERNEL(kPlainThreads<T>, kPlainBlocks<T>)
plain_rows(SEQKERN_CONSTANT RowsParams<T> of) {
  using S = Sum<T>;
  const SoftmaxParams<T>& p = of.p;
  for_each_row<kWidth>(p, [&](int64_t r, int64_t target) SEQKERN_INLINE {
    const LogitRow<T, kWidth> logits(p, r, of.keep);
    const S of_target = to_sum(logits.row[target]);
    S peak = kLowest<S>, sum = 0;
    logits.first_pass([&](int64_t, auto count, const auto& x) SEQKERN_INLINE {
      const S old = peak;
      for (int i = 0; i < count; ++i) peak = x.at[i] > peak ? x.at[i] : peak;
      const S base = base_of(peak);
      sum *= exp_of<T>(old - base);
      for (int i = 0; i < count; ++i) sum += exp_of<T>(x.at[i] - base);
    });
    const S own = peak;
    peak = block_max(own);
    const S base = base_of(peak);
    sum = block_sum(sum * exp_of<T>(own - base));
    const S log_sum = std::log(sum);
    if (thread_index() == 0) {
      const S pull = of_target - base;
      const S numbers[math::kRowNumbers] = {math::row_loss<S>(peak, log_sum, pull, 1, 0), peak, log_sum, pull, 1, pull, 1, 0};
      for (int i = 0; i < math::kRowNumbers; ++i) p.numbers[i * p.stride + r] = numbers[i];
    }
    if (!p.d_logits) return;

    T* const d_row = p.d_logits + r * p.classes;
    const S scale = loss_scale(p), factor = scale * factor_of(log_sum);
    logits.second_pass([&](int64_t v, auto count, auto x) SEQKERN_INLINE {
      for (int i = 0; i < count; ++i) x.at[i] = rounded_product(exp_of<T>(x.at[i] - base), factor);
      if (target >= v && target - v < count)
        for (int i = 0; i < count; ++i)
          if (v + i == target) x.at[i] -= scale;
      store_streaming(d_row + v, x);
    });
  });
}

// --- rows with options ---

// The class of the greatest of a row's probabilities, for its rank.
template <class T, int kWidth>
SEQKERN_DEVICE int64_t likeliest_class(const SoftmaxParams<T>& p, int64_t r) {
  using S = Sum<T>;
  const T* const row = p.target.probabilities + r * p.classes;
  S best = kLowest<S>;
  int64_t at = kNowhere;
  RowWalk<kWidth>(row, p.classes).forwards([&](int64_t v, auto count) {
    const auto q = load<count>(row + v);
    for (int i = 0; i < count; ++i) {
      if (!(q.at[i] > best || (q.at[i] == best && v + i < at))) continue;
      best = q.at[i];
      at = v + i;
    }
  });
  return block_first(best == block_max(best) ? at : kNowhere);
}

// What a thread gathers of a row: its sums, and, for ranks, the first class of its greatest logit and how many come before the
// target.
template <class T>
struct RowGatherer {
  using S = Sum<T>;

  RowSums<S> sums;
  int64_t first = kNowhere, before = 0;

  // Adds n logits from class v. q: the row of probabilities, or null. each: s / V. target, z_target: for ranks.
  template <int n>
  SEQKERN_DEVICE void add(const SoftmaxParams<T>& p, const T* q, S each, int64_t target, S z_target, int64_t v, Vector<S, n> z) {
    const SoftmaxTarget<T>& t = p.target;
    S peak = sums.peak;
    for (int i = 0; i < n; ++i) {
      z.at[i] = math::shape_logit(t.options, z.at[i]);
      if (z.at[i] > peak || (p.statistics && z.at[i] == peak && v + i < first)) {
        peak = z.at[i];
        first = v + i;
      }
    }
    sums.rebase(base_of(peak));
    sums.peak = peak;
    const S base = base_of(peak);
    for (int i = 0; i < n; ++i) {
      const S e = exp_of<T>(z.at[i] - base);
      sums.sum += e;
      if (p.statistics && e != 0) sums.mean += e * (z.at[i] - base);
    }
    if (p.statistics && target >= 0)
      for (int i = 0; i < n; ++i) before += z.at[i] > z_target || (z.at[i] == z_target && v + i < target);
    if (q) {
      const auto share = load<n>(q + v);
      for (int i = 0; i < n; ++i) {
        if (share.at[i] == 0) continue;
        const S a = share.at[i] * (1 - t.options.smoothing) * weight_of(t, v + i), pull = z.at[i] - base;
        sums.share += share.at[i];
        sums.target += share.at[i] * pull;
        sums.mass += a;
        if (a != 0) sums.pull += a * pull;
      }
    }
    if (each != 0)
      for (int i = 0; i < n; ++i) {
        const S a = each * weight_of(t, v + i);
        sums.mass += a;
        if (a != 0) sums.pull += a * (z.at[i] - base);
      }
  }

  // Over all threads of the block.
  SEQKERN_DEVICE void combine(bool statistics) {
    const S own = sums.peak, peak = block_max(own);
    sums.rebase(base_of(peak));
    sums.peak = peak;
    const auto all = block_sums<S, 6>({sums.sum, sums.mean, sums.target, sums.share, sums.pull, sums.mass});
    sums.sum = all.at[0];
    sums.mean = all.at[1];
    sums.target = all.at[2];
    sums.share = all.at[3];
    sums.pull = all.at[4];
    sums.mass = all.at[5];
    if (!statistics) return;
    first = block_first(own == peak ? first : kNowhere);
    before = block_sum(before);
  }
};

// The coefficients of exp(z_v - base) in the place of those of p_v.
template <class S>
SEQKERN_DEVICE RowGradient<S> gradient_by_exp(RowGradient<S> g) {
  const S factor = factor_of(g.log_sum);
  g.of_p *= factor;
  g.of_pz *= factor;
  return g;
}

// Turns n logits from class v into their gradient, by what gradient_by_exp yields. target: -1 where it is no class here.
template <int n, class T, class S = Sum<T>>
SEQKERN_DEVICE void to_gradient(const SoftmaxTarget<T>& t, const RowGradient<S>& g, int64_t target, const T* q, int64_t v,
                                Vector<S, n>& x) {
  const S base = base_of(g.peak);
  Vector<S, n> z, dz;
  for (int i = 0; i < n; ++i) {
    z.at[i] = math::shape_logit(t.options, x.at[i]);
    const S e = exp_of<T>(z.at[i] - base);
    dz.at[i] = rounded_product(e, g.of_p);
    if (g.of_pz != 0 && e != 0) dz.at[i] += e * g.of_pz * (z.at[i] - base);
  }
  if (q) {
    const auto share = load<n>(q + v);
    for (int i = 0; i < n; ++i) dz.at[i] -= share.at[i] * (g.of_q * weight_of(t, v + i) + g.of_share);
  } else if (target >= v && target - v < n) {
    const S of_target = g.of_q * weight_of(t, target) + g.of_share;
    for (int i = 0; i < n; ++i)
      if (v + i == target) dz.at[i] -= of_target;
  }
  if (g.of_weight != 0)
    for (int i = 0; i < n; ++i) dz.at[i] -= g.of_weight * weight_of(t, v + i);
  for (int i = 0; i < n; ++i) x.at[i] = dz.at[i] * math::logit_slope(t.options, z.at[i]);
}

template <class T, int kWidth>
SEQKERN_KERNEL(kGeneralThreads<T>, kGeneralBlocks)
general_rows(SEQKERN_CONSTANT RowsParams<T> of) {
  using S = Sum<T>;
  const SoftmaxParams<T>& p = of.p;
  const SoftmaxTarget<T>& t = p.target;
  const math::SoftmaxOptions<S>& o = t.options;
  for_each_row<kWidth>(p, [&](int64_t r, int64_t target) SEQKERN_INLINE {
    const LogitRow<T, kWidth> logits(p, r, of.keep);
    const T* const q = t.probabilities ? t.probabilities + r * p.classes : nullptr;
    const int64_t ranked = q ? (p.statistics ? likeliest_class<T, kWidth>(p, r) : -1) : target;
    const S z_ranked = ranked >= 0 ? math::shape_logit(o, to_sum(logits.row[ranked])) : S(0);
    const S each = o.smoothing / static_cast<S>(t.all_classes);
    RowGatherer<T> row;
    logits.first_pass([&](int64_t v, auto count, const auto& x)
                          SEQKERN_INLINE { row.template add<count>(p, q, each, ranked, z_ranked, v, x); });
    row.combine(p.statistics);

    RowSums<S>& sums = row.sums;
    if (target >= 0) {
      const S pull = z_ranked - sums.base(), a = (1 - o.smoothing) * weight_of(t, target);
      sums.share += 1;
      sums.target += pull;
      sums.mass += a;
      if (a != 0) sums.pull += a * pull;
    }
    const S log_sum = std::log(sums.sum), mean = p.statistics ? sums.mean / sums.sum : S(0);
    if (thread_index() == 0) {
      const S numbers[math::kRowNumbers] = {math::row_loss<S>(sums.peak, log_sum, sums.pull, sums.mass, o.z_loss),
                                            sums.peak,
                                            log_sum,
                                            sums.target,
                                            sums.share,
                                            sums.pull,
                                            sums.mass,
                                            mean};
      for (int i = 0; i < math::kRowNumbers; ++i) p.numbers[i * p.stride + r] = numbers[i];
      if (p.statistics) {
        p.ranks[r] = ranked >= 0 ? row.before : -1;
        p.ranks[p.stride + r] = row.first >= 0 ? t.first_class + row.first : -1;
      }
    }
    if (!p.d_logits) return;

    T* const d_row = p.d_logits + r * p.classes;
    const auto g = gradient_by_exp(math::row_gradient<S>(o, t.all_classes, sums.peak, log_sum, sums.share, sums.mass, S(0),
                                                         loss_scale(p), S(0), S(0), S(0)));
    logits.second_pass([&](int64_t v, auto count, auto x) SEQKERN_INLINE {
      to_gradient<count>(t, g, target, q, v, x);
      store_streaming(d_row + v, x);
    });
  });
}

// The gradient alone, from known numbers.
template <class T, int kWidth>
SEQKERN_KERNEL(kGeneralThreads<T>, kGeneralBlocks)
rows_gradient(SEQKERN_CONSTANT RowsParams<T> of) {
  using S = Sum<T>;
  const SoftmaxParams<T>& p = of.p;
  const SoftmaxTarget<T>& t = p.target;
  for_each_row<kWidth>(p, [&](int64_t r, int64_t target) SEQKERN_INLINE {
    const auto number = [&](int i) { return p.numbers[i * p.stride + r]; };
    const auto d = [&](int i) { return p.d_numbers[i * p.stride + r]; };
    const auto g = gradient_by_exp(math::row_gradient<S>(t.options, t.all_classes, number(math::kRowPeak),
                                                         number(math::kRowLogSum), number(math::kRowShare),
                                                         number(math::kRowMass), number(math::kRowMean), d(math::kOfLoss),
                                                         d(math::kOfLogProbability), d(math::kOfLogSumExp), d(math::kOfEntropy)));
    const T* const q = t.probabilities ? t.probabilities + r * p.classes : nullptr;
    T* const d_row = p.d_logits + r * p.classes;
    LogitRow<T, kWidth>(p, r, false).first_pass([&](int64_t v, auto count, auto x) SEQKERN_INLINE {
      to_gradient<count>(t, g, target, q, v, x);
      store_streaming(d_row + v, x);
    });
  });
}

// --- all rows ---

template <class T>
SEQKERN_KERNEL(kMaxThreads)
set_denominator(SEQKERN_CONSTANT SoftmaxParams<T> p) {
  const SoftmaxTarget<T>& t = p.target;
  double sum = 0;
  if (p.reduction == Reduction::mean && t.target) {
    SEQKERN_UNROLL(8)
    for (int64_t r = thread_index(); r < p.rows; r += block_size()) {
      const RowTarget target(t, p.classes, r);
      if (target.state == RowState::invalid) sum += 1;  // lest a mean of nothing hide its NaN
      if (target.at >= 0) sum += static_cast<double>(weight_of(t, target.at));
    }
    sum = block_sum(sum);
  } else {
    sum = p.reduction == Reduction::mean ? static_cast<double>(p.rows) : 1;
  }
  if (thread_index() == 0) *p.denominator = static_cast<Sum<T>>(sum);
}

template <class T>
SEQKERN_KERNEL(kMaxThreads)
reduce_loss(SEQKERN_CONSTANT SoftmaxParams<T> p) {
  const Sum<T>* const losses = p.numbers + math::kRowLoss * p.stride;
  double sum = 0;
  SEQKERN_UNROLL(8)
  for (int64_t r = thread_index(); r < p.rows; r += block_size()) sum += static_cast<double>(losses[r]);
  sum = block_sum(sum);
  const auto denominator = static_cast<double>(*p.denominator);
  if (thread_index() == 0) *p.loss = static_cast<Sum<T>>(denominator == 0 ? 0 : sum / denominator);
}

// Blocks take the values a share of kScaledAtOnce vectors a thread at a time.
constexpr int kScaleThreads = 256, kScaledAtOnce = 4;

template <class T, int kWidth>
SEQKERN_KERNEL(kScaleThreads)
scale_values(SEQKERN_CONSTANT ScaleParams<T> p) {
  const Sum<T> by = *p.by;
  if (by == 1) return;
  const int64_t stride = block_count() * block_size(), first = block_index() * block_size() + thread_index();
  const auto scale = [&](int64_t v, auto count) SEQKERN_INLINE {
    auto x = unpack(load_packed<count>(p.values + v));
    for (int i = 0; i < count; ++i) x.at[i] *= by;
    store_streaming(p.values + v, x);
  };
  const int64_t vectors = p.count / kWidth;
  SEQKERN_UNROLL(kScaledAtOnce)
  for (int64_t i = first; i < vectors; i += stride) scale(i * kWidth, std::integral_constant<int, kWidth>());
  for (int64_t v = vectors * kWidth + first; v < p.count; v += stride) scale(v, std::integral_constant<int, 1>());
}

// --- launches ---

// Whether the rows of all arrays lie alike to a vector's alignment.
template <class T>
bool vectors_fit(const SoftmaxParams<T>& p) {
  const auto fits = [&](const T* other) {
    return !other || (reinterpret_cast<uintptr_t>(other) - reinterpret_cast<uintptr_t>(p.logits)) % kVectorBytes == 0;
  };
  return fits(p.d_logits) && fits(p.target.probabilities);
}

// Threads enough for the row in four vectors each, in whole warps.
template <class T>
int threads_for(int64_t classes, int most) {
  int threads = 2 * kWarpSize;
  while (threads < most && threads * 4 * kVectorBytes < classes * static_cast<int64_t>(sizeof(T))) threads *= 2;
  return threads;
}

// Shared memory for a row that is read twice; 0 where two such blocks do not fit a multiprocessor, since a single one would leave
// the memory idle while it computes.
template <class T>
cudaError_t bytes_to_keep(const SoftmaxParams<T>& p, size_t& bytes) {
  constexpr int64_t kTaken = 4 << 10;  // of a block: by reductions and by the system
  bytes = 0;
  if (!p.d_logits || p.d_numbers) return cudaSuccess;
  DeviceLimits limits{};
  const cudaError_t error = device_limits(limits);
  const int64_t needed = p.classes * static_cast<int64_t>(sizeof(T)) + kVectorBytes;
  if (error == cudaSuccess && 2 * (needed + kTaken) <= limits.shared_bytes) bytes = static_cast<size_t>(needed);
  return error;
}

template <class T, int kWidth>
cudaError_t launch_rows(const SoftmaxParams<T>& p, cudaStream_t stream) {
  size_t kept = 0;
  const cudaError_t error = bytes_to_keep(p, kept);
  if (error != cudaSuccess) return error;
  const bool plain = is_plain(p);
  const auto kernel = p.d_numbers ? rows_gradient<T, kWidth> : plain ? plain_rows<T, kWidth> : general_rows<T, kWidth>;
  const int threads = threads_for<T>(p.classes, plain ? kPlainThreads<T> : kGeneralThreads<T>);
  return launch(kernel, {{p.rows, 1}, threads, stream, kept}, RowsParams<T>{p, kept > 0});
}

}  // namespace

template <class T>
cudaError_t launch_softmax_denominator(const SoftmaxParams<T>& p, cudaStream_t stream) {
  return launch(set_denominator<T>, {{1, 1}, kMaxThreads, stream}, p);
}

template <class T>
cudaError_t launch_softmax_rows(const SoftmaxParams<T>& p, cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;  // a grid must not be empty
  return vectors_fit(p) ? launch_rows<T, kVectorBytes / sizeof(T)>(p, stream) : launch_rows<T, 1>(p, stream);
}

template <class T>
cudaError_t launch_softmax_loss(const SoftmaxParams<T>& p, cudaStream_t stream) {
  if (p.reduction == Reduction::none) return cudaSuccess;
  return launch(reduce_loss<T>, {{1, 1}, kMaxThreads, stream}, p);
}

template <class T>
cudaError_t launch_scale(const ScaleParams<T>& p, cudaStream_t stream) {
  constexpr int kWidth = kVectorBytes / sizeof(T);
  if (p.count == 0) return cudaSuccess;
  const bool aligned = reinterpret_cast<uintptr_t>(p.values) % kVectorBytes == 0;
  constexpr int64_t kOfBlock = int64_t{kScaleThreads} * kScaledAtOnce * kWidth;
  const Launch how{{(p.count + kOfBlock - 1) / kOfBlock, 1}, kScaleThreads, stream};
  return launch(aligned ? scale_values<T, kWidth> : scale_values<T, 1>, how, p);
}

#define SEQKERN_INSTANTIATE(T)                                                            \
  template cudaError_t launch_softmax_denominator(const SoftmaxParams<T>&, cudaStream_t); \
  template cudaError_t launch_softmax_rows(const SoftmaxParams<T>&, cudaStream_t);        \
  template cudaError_t launch_softmax_loss(const SoftmaxParams<T>&, cudaStream_t);        \
  template cudaError_t launch_scale(const ScaleParams<T>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(Float16)

}  // namespace seqkern::cuda
