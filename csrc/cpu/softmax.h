// The time-softmax loss on the CPU: the mean over rows of -log softmax(logits)[target], and its gradient, in one call.
//
//   loss_r = log(sum_v exp(x_v - max)) + max - x_target        d x_v = (softmax(x)_v - [v = target]) / count
//
// A row is read from memory once: it stays in the caches for the passes (maximum; sum of exponentials; gradient). The
// exponentials are kept in the gradient's row, if its type holds them exactly, and only scaled in the last pass.
#pragma once

#include "cpu/parallel.h"
#include "cpu/simd.h"
#include "math/types.h"
#include "params/softmax.h"

namespace seqkern::cpu::SEQKERN_ISA {

// The first n values of a row as they are summed; the other lanes read as `fill`.
template <class T, class S = math::Sum<T>>
SEQKERN_INLINE Vec<S> load_row(const T* p, int n, S fill) {
  Vec<S> v = load_sum(p, n);
  for (int i = n; i < kLanes<S>; ++i) v[i] = fill;
  return v;
}

// Calls body(vector, first column, valid lanes) over a row.
template <class T, class S, class Body>
SEQKERN_INLINE void for_each_vector(const T* row, int64_t classes, S fill, const Body& body) {
  int64_t v = 0;
  for (; v + kLanes<S> <= classes; v += kLanes<S>) body(load_row(row + v, kLanes<S>, fill), v, kLanes<S>);
  if (v < classes) body(load_row(row + v, static_cast<int>(classes - v), fill), v, static_cast<int>(classes - v));
}

// The largest value of a row; four at a time, since each comparison waits for the one before.
template <class S, class T>
S row_max(const T* row, int64_t classes) {
  constexpr S kNone = -std::numeric_limits<S>::infinity();
  constexpr int lanes = kLanes<S>;
  Vec<S> best[4] = {broadcast(kNone), broadcast(kNone), broadcast(kNone), broadcast(kNone)};
  int64_t v = 0;
  for (; v + 4 * lanes <= classes; v += 4 * lanes)
    for (int i = 0; i < 4; ++i) best[i] = max(load_row(row + v + i * lanes, lanes, kNone), best[i]);
  for_each_vector(row + v, classes - v, kNone, [&](Vec<S> x, int64_t, int) { best[0] = max(x, best[0]); });
  return reduce_max<S>(max(max(best[0], best[1]), max(best[2], best[3])));
}

template <class T>
void softmax_loss(const SoftmaxLossParams<T>& p) {
  using S = math::Sum<T>;
  int64_t count = 0;
  for (int64_t r = 0; r < p.rows; ++r) count += p.target[r] != p.ignore_index;
  const S scale = count ? S(1) / static_cast<S>(count) : S(0);
  constexpr S kNone = -std::numeric_limits<S>::infinity();
  constexpr int64_t kBlock = 64 * kLanes<S>;

  parallel(p.threads, [&](const Worker& worker) {
    const Range part = worker.part_of(p.rows);
    for (int64_t r = part.begin; r < part.end; ++r) {
      const T* row = p.logits + r * p.classes;
      T* d_row = p.d_logits ? p.d_logits + r * p.classes : nullptr;
      if (p.target[r] == p.ignore_index) {
        p.row_loss[r] = 0;
        if (d_row) std::memset(static_cast<void*>(d_row), 0, sizeof(T) * static_cast<size_t>(p.classes));
        continue;
      }
      const S peak = row_max<S>(row, p.classes);
      double sum = 0;  // over blocks, so that its error does not grow with V
      for (int64_t v = 0; v < p.classes; v += kBlock) {
        Vec<S> sums{};
        for_each_vector(row + v, std::min(kBlock, p.classes - v), kNone, [&](Vec<S> x, int64_t i, int n) {
          const Vec<S> e = math::exp_value(x - peak);
          sums += e;
          if constexpr (std::is_same_v<T, S>)
            if (d_row) store_sum(d_row + v + i, e, n);
        });
        sum += static_cast<double>(reduce_sum<S>(sums));
      }
      alignas(kVectorBytes) S target_value[kLanes<S>];
      store(target_value, load_row(row + p.target[r], 1, S(0)));
      p.row_loss[r] = std::log(sum) + static_cast<double>(peak) - static_cast<double>(target_value[0]);
      if (!d_row) continue;
      const S factor = scale / static_cast<S>(sum);
      if constexpr (std::is_same_v<T, S>)
        for_each_vector(d_row, p.classes, kNone, [&](Vec<S> e, int64_t v, int n) { store_sum(d_row + v, e * factor, n); });
      else
        for_each_vector(row, p.classes, kNone,
                        [&](Vec<S> x, int64_t v, int n) { store_sum(d_row + v, math::exp_value(x - peak) * factor, n); });
      const S at_target = std::exp(target_value[0] - peak) * factor - scale;
      store_sum(d_row + p.target[r], broadcast(at_target), 1);
    }
  });
  double total = 0;
  for (int64_t r = 0; r < p.rows; ++r) total += p.row_loss[r];
  *p.loss = count ? total / static_cast<double>(count) : 0.0;
}

}  // namespace seqkern::cpu::SEQKERN_ISA
