// The softmax loss on the CPU (math/softmax.h has the formulas): sums over the classes of a row, and the gradient.
//
// Both are written over a part of a row: softmax_loss below takes a row of given logits as one part, linear_softmax.h the blocks
// of classes whose logits it has just computed. A part is read from memory once: it stays in the caches for the passes (maximum;
// sum of exponentials; gradient). Passes that only options ask for are further walks over the cached part.
#pragma once

#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "math/softmax.h"
#include "params/softmax.h"

namespace seqkern::cpu::SEQKERN_ISA {

// The classes [first, first + size) of a row, and what its sums and gradient are taken with. Arrays begin at class `first`.
// X: the logits' type, T: the tensors'.
template <class X, class T>
struct RowPart {
  using S = math::Sum<T>;

  const X* logits;
  int64_t size;
  const S* class_weight;   // or null
  const T* probabilities;  // or null
  int64_t target;          // from `first`; outside [0, size): in another part
  math::SoftmaxOptions<S> options;
  bool shaped;  // whether options change the logits

  bool has_target() const { return target >= 0 && target < size; }
};

// z of n classes from v; the other lanes are `fill`.
template <class X, class T, class S = math::Sum<T>>
SEQKERN_INLINE Vec<S> read(const RowPart<X, T>& part, int64_t v, int n, S fill) {
  Vec<S> z = load_sum(part.logits + v, n);
  if (part.shaped) z = math::shape_logit(part.options, z);
  for (int i = n; i < kLanes<S>; ++i) z[i] = fill;
  return z;
}

// Calls body(first class, valid lanes) over the vectors of [begin, end).
template <class S, class Body>
SEQKERN_INLINE void for_each_vector(int64_t begin, int64_t end, const Body& body) {
  for (; begin + kLanes<S> <= end; begin += kLanes<S>) body(begin, kLanes<S>);
  if (begin < end) body(begin, static_cast<int>(end - begin));
}

// The greatest z of [begin, end); four vectors at a time, since each comparison waits for the one before.
template <class X, class T, class S = math::Sum<T>>
S greatest(const RowPart<X, T> part, int64_t begin, int64_t end) {
  constexpr S kNone = -std::numeric_limits<S>::infinity();
  constexpr int lanes = kLanes<S>;
  Vec<S> best[4] = {broadcast(kNone), broadcast(kNone), broadcast(kNone), broadcast(kNone)};
  for (; begin + 4 * lanes <= end; begin += 4 * lanes)
    for (int i = 0; i < 4; ++i) best[i] = max(read(part, begin + i * lanes, lanes, kNone), best[i]);
  for_each_vector<S>(begin, end, [&](int64_t v, int n) { best[0] = max(read(part, v, n, kNone), best[0]); });
  return reduce_max<S>(max(max(best[0], best[1]), max(best[2], best[3])));
}

// The sum of body(first class, valid lanes), a vector, over a part: of blocks, so that its error does not grow with V.
template <class S, class Body>
SEQKERN_INLINE double blocked_sum(int64_t size, const Body& body) {
  constexpr int64_t kBlock = 64 * kLanes<S>;
  double sum = 0;
  for (int64_t v = 0; v < size; v += kBlock) {
    Vec<S> sums{};
    for_each_vector<S>(v, std::min(v + kBlock, size), [&](int64_t i, int n) { sums += body(i, n); });
    sum += static_cast<double>(reduce_sum<S>(sums));
  }
  return sum;
}

// z of one class.
template <class X, class T, class S = math::Sum<T>>
S read_one(const RowPart<X, T>& part, int64_t v) {
  alignas(kVectorBytes) S z[kLanes<S>];
  store(z, read(part, v, 1, S(0)));
  return z[0];
}

template <class X, class T, class S = math::Sum<T>>
SEQKERN_INLINE Vec<S> weights(const RowPart<X, T>& part, int64_t v, int n) {
  if (part.class_weight) return load_partial(part.class_weight + v, n);
  Vec<S> ones = broadcast(S(1));
  for (int i = n; i < kLanes<S>; ++i) ones[i] = 0;
  return ones;
}

// What a part adds to the sums of its row. all_classes: V of the whole row. keep: exp(z - peak) is left there, if not null.
template <class X, class T, class S = math::Sum<T>>
math::RowSums<double> sum_part(const RowPart<X, T> part, int64_t all_classes, bool statistics, S* keep) {
  constexpr S kNone = -std::numeric_limits<S>::infinity();
  math::RowSums<double> sums;
  const S peak = greatest(part, 0, part.size), base = peak == kNone ? S(0) : peak;
  sums.peak = static_cast<double>(peak);
  sums.sum = blocked_sum<S>(part.size, [&](int64_t v, int n) {
    const Vec<S> e = math::exp_value(read(part, v, n, kNone) - base);
    if (keep) store_partial(keep + v, e, n);
    return e;
  });
  if (statistics)
    sums.mean = blocked_sum<S>(part.size, [&](int64_t v, int n) {
      const Vec<S> z = read(part, v, n, kNone) - base, e = math::exp_value(z);
      return e == 0 ? Vec<S>{} : e * z;
    });

  const double smoothing = static_cast<double>(part.options.smoothing);
  const auto pulled = [&](Vec<S> a, int64_t v, int n) { return a == 0 ? Vec<S>{} : a * (read(part, v, n, base) - base); };
  if (part.probabilities) {
    const auto probability = [&](int64_t v, int n) { return load_sum(part.probabilities + v, n); };
    const auto weighted = [&](int64_t v, int n) { return probability(v, n) * weights(part, v, n); };
    sums.share = blocked_sum<S>(part.size, probability);
    sums.target = blocked_sum<S>(part.size, [&](int64_t v, int n) { return pulled(probability(v, n), v, n); });
    sums.mass = (1 - smoothing) * blocked_sum<S>(part.size, weighted);
    sums.pull = (1 - smoothing) * blocked_sum<S>(part.size, [&](int64_t v, int n) { return pulled(weighted(v, n), v, n); });
  } else if (part.has_target()) {
    const double weight = part.class_weight ? static_cast<double>(part.class_weight[part.target]) : 1;
    sums.share = 1;
    sums.target = static_cast<double>(read_one(part, part.target)) - static_cast<double>(base);
    sums.mass = (1 - smoothing) * weight;
    sums.pull = sums.mass == 0 ? 0 : sums.mass * sums.target;
  }
  if (smoothing != 0) {
    const double each = smoothing / static_cast<double>(all_classes);
    sums.mass += each * blocked_sum<S>(part.size, [&](int64_t v, int n) { return weights(part, v, n); });
    sums.pull += each * blocked_sum<S>(part.size, [&](int64_t v, int n) { return pulled(weights(part, v, n), v, n); });
  }
  return sums;
}

// The first class whose z is `value`; -1 if there is none.
template <class X, class T, class S = math::Sum<T>>
int64_t find(const RowPart<X, T> part, S value) {
  int64_t begin = 0;
  for (constexpr int64_t kBlock = 64 * kLanes<S>; begin + kBlock < part.size; begin += kBlock)
    if (greatest(part, begin, begin + kBlock) >= value) break;
  for (int64_t v = begin; v < part.size; ++v)
    if (read_one(part, v) == value) return v;
  return -1;
}

// How many classes of a part come before the row's target, whose z is `value`: those with a greater z, or, before the target, the
// same.
template <class X, class T, class S = math::Sum<T>>
int64_t count_before(const RowPart<X, T> part, S value) {
  using Mask = decltype(Vec<S>{} > Vec<S>{});
  constexpr S kNever = std::numeric_limits<S>::quiet_NaN();
  const int64_t middle = std::clamp<int64_t>(part.target, 0, part.size);
  Mask counts{};
  for_each_vector<S>(0, middle, [&](int64_t v, int n) { counts -= read(part, v, n, kNever) >= value; });
  for_each_vector<S>(middle, part.size, [&](int64_t v, int n) { counts -= read(part, v, n, kNever) > value; });
  int64_t count = 0;
  for (int i = 0; i < kLanes<S>; ++i) count += counts[i];
  return count;
}

// The gradient of a row as it is computed: p_v = exp(z_v - peak) * factor.
template <class S>
struct RowFactors {
  S peak, of_e, of_ez;  // exp(z_v - peak) (of_e + of_ez (z_v - peak))
  S of_q, of_share, of_weight;

  explicit RowFactors(const math::RowGradient<double>& g)
      : peak(static_cast<S>(g.peak)),
        of_e(static_cast<S>(g.of_p * std::exp(-g.log_sum))),
        of_ez(static_cast<S>(g.of_pz * std::exp(-g.log_sum))),
        of_q(static_cast<S>(g.of_q)),
        of_share(static_cast<S>(g.of_share)),
        of_weight(static_cast<S>(g.of_weight)) {}
};

// Writes the gradient of a part to d; kept: exp(z - peak) where it is known, or null. d may be the logits, or `kept`.
template <class X, class T, class D, class S = math::Sum<T>>
void write_gradient(const RowPart<X, T> part, const RowFactors<S> g, const S* kept, D* d) {
  const auto exponential = [&](int64_t v, int n) {
    return kept ? load_partial(kept + v, n) : math::exp_value(read(part, v, n, g.peak) - g.peak);
  };
  const auto slope = [&](Vec<S> dz, int64_t v, int n) {
    return part.shaped ? dz * math::logit_slope(part.options, read(part, v, n, g.peak)) : dz;
  };
  const auto gradient = [&](int64_t v, int n) {
    const Vec<S> e = exponential(v, n);
    Vec<S> dz = e * g.of_e;
    if (g.of_ez != 0) dz += e == 0 ? Vec<S>{} : e * g.of_ez * (read(part, v, n, g.peak) - g.peak);
    if (part.probabilities) dz -= load_sum(part.probabilities + v, n) * (weights(part, v, n) * g.of_q + g.of_share);
    if (g.of_weight != 0) dz -= weights(part, v, n) * g.of_weight;
    return dz;
  };
  const int64_t t = part.target;
  const bool fixes_target = part.has_target() && !part.probabilities;
  Vec<S> at_target{};
  if (fixes_target) {  // before the loop: d may be what it is computed from
    const S weight = part.class_weight ? part.class_weight[t] : S(1);
    at_target = slope(gradient(t, 1) - (weight * g.of_q + g.of_share), t, 1);
  }
  const bool plain = !part.shaped && !part.probabilities && g.of_weight == 0 && g.of_ez == 0;
  if (plain)
    for_each_vector<S>(0, part.size, [&](int64_t v, int n) { store_sum(d + v, exponential(v, n) * g.of_e, n); });
  else
    for_each_vector<S>(0, part.size, [&](int64_t v, int n) { store_sum(d + v, slope(gradient(v, n), v, n), n); });
  if (fixes_target) store_sum(d + t, at_target, 1);
}

// What the rows of a loss have in common, whatever their logits come from. Params: SoftmaxParams or LinearSoftmaxParams.
template <class T, class Params>
class Rows {
 public:
  using S = math::Sum<T>;

  explicit Rows(const Params& p) : p_(p), target_(p.target), likeliest_(p.statistics && p.target.probabilities ? p.rows : 0) {
    if (p.d_numbers) return;
    if (likeliest_.get()) find_likeliest();
    double sum = 1;
    if (p.reduction == Reduction::mean) {
      sum = target_.target ? 0 : static_cast<double>(p.rows);
      for (int64_t r = 0; target_.target && r < p.rows; ++r)
        if (counts(r)) sum += target_.class_weight ? static_cast<double>(target_.class_weight[target_.target[r]]) : 1;
    }
    scale_ = sum == 0 ? 0 : 1 / sum;
    *p.denominator = static_cast<S>(sum);
  }

  bool counts(int64_t r) const { return !target_.target || target_.target[r] != target_.ignore_index; }

  // The classes [first, first + size) of row r.
  template <class X>
  RowPart<X, T> part(int64_t r, int64_t first, int64_t size, const X* logits) const {
    RowPart<X, T> part;
    part.logits = logits;
    part.size = size;
    part.class_weight = target_.class_weight ? target_.class_weight + first : nullptr;
    part.probabilities = target_.probabilities ? target_.probabilities + r * p_.classes + first : nullptr;
    part.target = target_.target ? target_.target[r] - target_.first_class : likeliest_.get() ? likeliest_.get()[r] : -1;
    part.target -= first;
    part.options = target_.options;
    part.shaped = target_.options.cap != 0 || target_.options.scale != 1;
    return part;
  }

  // Fills in the numbers of a row by its sums; of one that does not count, null.
  void set_numbers(int64_t r, const math::RowSums<double>* sums) const {
    double values[math::kRowNumbers] = {};
    if (sums) {
      values[math::kRowPeak] = sums->peak;
      values[math::kRowLogSum] = std::log(sums->sum);
      values[math::kRowTarget] = sums->target;
      values[math::kRowShare] = sums->share;
      values[math::kRowPull] = sums->pull;
      values[math::kRowMass] = sums->mass;
      values[math::kRowMean] = sums->mean / sums->sum;
      values[math::kRowLoss] = math::row_loss<double>(sums->peak, values[math::kRowLogSum], sums->pull, sums->mass,
                                                      static_cast<double>(target_.options.z_loss));
    }
    for (int i = 0; i < math::kRowNumbers; ++i) number(i, r) = static_cast<S>(values[i]);
  }

  // Of the gradient of the loss itself.
  RowFactors<S> factors(const math::RowSums<double>& sums) const {
    return of(sums.peak, std::log(sums.sum), sums.share, sums.mass, 0, scale_, 0, 0, 0);
  }
  // Of all that backward is given.
  RowFactors<S> factors(int64_t r) const {
    const auto d = [&](int i) { return static_cast<double>(p_.d_numbers[i * p_.rows + r]); };
    const auto known = [&](int i) { return static_cast<double>(number(i, r)); };
    return of(known(math::kRowPeak), known(math::kRowLogSum), known(math::kRowShare), known(math::kRowMass),
              known(math::kRowMean), d(math::kOfLoss), d(math::kOfLogProbability), d(math::kOfLogSumExp), d(math::kOfEntropy));
  }

  void set_ranks(int64_t r, int64_t rank, int64_t best) const {
    p_.ranks[r] = rank;
    p_.ranks[p_.rows + r] = best < 0 ? best : best + target_.first_class;
  }

  // After all rows.
  void reduce() const {
    double sum = 0;
    for (int64_t r = 0; r < p_.rows; ++r) sum += static_cast<double>(number(math::kRowLoss, r));
    *p_.loss = static_cast<S>(sum * scale_);
  }

 private:
  S& number(int i, int64_t r) const { return p_.numbers[i * p_.rows + r]; }

  RowFactors<S> of(double peak, double log_sum, double share, double mass, double mean, double d_loss, double d_log_probability,
                   double d_log_sum_exp, double d_entropy) const {
    const auto& o = target_.options;
    const math::SoftmaxOptions<double> options{static_cast<double>(o.smoothing), static_cast<double>(o.z_loss),
                                               static_cast<double>(o.cap), static_cast<double>(o.scale)};
    return RowFactors<S>(math::row_gradient<double>(options, target_.all_classes, peak, log_sum, share, mass, mean, d_loss,
                                                    d_log_probability, d_log_sum_exp, d_entropy));
  }

  void find_likeliest() const {
    parallel(p_.threads, [&](const Worker& worker) {
      const Range mine = worker.part_of(p_.rows);
      for (int64_t r = mine.begin; r < mine.end; ++r) {
        const RowPart<T, T> q{target_.probabilities + r * p_.classes, p_.classes, nullptr, nullptr, -1, {}, false};
        likeliest_.get()[r] = find(q, greatest(q, 0, p_.classes));
      }
    });
  }

  const Params& p_;
  const SoftmaxTarget<T>& target_;
  const Buffer<int64_t> likeliest_;  // [R]: the class of the greatest probability of a row's target, for its rank
  double scale_ = 0;                 // of a row's loss
};

template <class T>
void softmax_loss(const SoftmaxParams<T>& p) {
  using S = math::Sum<T>;
  const Rows<T, SoftmaxParams<T>> rows(p);
  parallel(p.threads, [&](const Worker& worker) {
    const Range mine = worker.part_of(p.rows);
    for (int64_t r = mine.begin; r < mine.end; ++r) {
      T* const d = p.d_logits ? p.d_logits + r * p.classes : nullptr;
      if (!rows.counts(r)) {
        if (!p.d_numbers) rows.set_numbers(r, nullptr);
        if (p.statistics) rows.set_ranks(r, -1, -1);
        if (d) std::memset(static_cast<void*>(d), 0, sizeof(T) * static_cast<size_t>(p.classes));
        continue;
      }
      const RowPart<T, T> part = rows.part(r, 0, p.classes, p.logits + r * p.classes);
      if (p.d_numbers) {
        write_gradient(part, rows.factors(r), static_cast<const S*>(nullptr), d);
        continue;
      }
      S* keep = nullptr;  // the exponentials wait in the gradient's place, if its type holds them exactly
      if constexpr (std::is_same_v<T, S>) keep = d;
      const math::RowSums<double> sums = sum_part(part, p.target.all_classes, p.statistics, keep);
      rows.set_numbers(r, &sums);
      if (p.statistics)
        rows.set_ranks(r, part.has_target() ? count_before(part, read_one(part, part.target)) : -1,
                       find(part, static_cast<S>(sums.peak)));
      if (d) write_gradient(part, rows.factors(sums), static_cast<const S*>(keep), d);
    }
  });
  if (!p.d_numbers && p.reduction != Reduction::none) rows.reduce();
}

}  // namespace seqkern::cpu::SEQKERN_ISA
