// One row of the softmax loss: what is summed over its classes, the loss, and the gradient's coefficients.
//
//   z_v = cap tanh(x_v / cap) / temperature            (without a cap: x_v / temperature)
//   p_v = exp(z_v - lse)                               lse = log sum_v exp(z_v)
//   a_v = (1 - s) w_v q_v + (s / V) w_v                q: the target's probabilities ([v = target]), w: class weights (1), s:
//   smoothing loss = sum_v a_v (lse - z_v) + k lse^2             k: z-loss
//
// Sums are of z_v - peak, where peak is the greatest z_v: large logits do not cancel. Parts of a row (blocks of classes, the
// shards of a vocabulary) are summed apart and merged. Sources: Goodfellow et al., Deep Learning, 6.2.2.3; label smoothing of
// Szegedy et al. 2016, as torch has it; z-loss of Chowdhery et al. 2022 (PaLM); soft-cap of Gemma Team 2024; the running maximum
// of Milakov and Gimelshein 2018.
#pragma once

#include <cstdint>
#include <limits>

#include "math/activations.h"
#include "math/softmax_options.h"

namespace seqkern::math {

// z of x. V: S or a vector of them.
template <class S, class V>
SEQKERN_HD V shape_logit(const SoftmaxOptions<S>& o, V x) {
  if (o.cap != 0) x = o.cap * tanh_value(x * (1 / o.cap));
  return x * o.scale;
}

// dz / dx by z.
template <class S, class V>
SEQKERN_HD V logit_slope(const SoftmaxOptions<S>& o, V z) {
  const V one = V{} + 1;
  if (o.cap == 0) return one * o.scale;
  const V y = z * (1 / (o.cap * o.scale));
  return (one - y * y) * o.scale;
}

// The sums of a part of a row, relative to the part's own peak. An empty part: peak -inf, all else 0.
template <class S>
struct RowSums {
  S peak = -std::numeric_limits<S>::infinity();
  S sum = 0;   // of exp(z - base)
  S mean = 0;  // of exp(z - base) (z - base), where exp is not 0
  S target = 0, share = 0, pull = 0, mass = 0;

  // What sums are relative to: the peak, except that -inf, from which no value can be told apart, stands for 0.
  SEQKERN_HD S base() const { return peak == -std::numeric_limits<S>::infinity() ? S(0) : peak; }

  // Relative to another base, not less than the own one unless nothing has been summed.
  SEQKERN_HD void rebase(S to) {
    const S shift = base() - to;
    if (shift == 0) return;
    if (sum != 0) {  // else the factor may be infinite
      const S factor = exp_value(shift);
      mean = factor * (mean + sum * shift);
      sum *= factor;
    }
    target += share * shift;
    pull += mass * shift;
  }

  SEQKERN_HD void merge(RowSums other) {
    RowSums both;
    both.peak = other.peak > peak ? other.peak : peak;
    rebase(both.base());
    other.rebase(both.base());
    both.sum = sum + other.sum;
    both.mean = mean + other.mean;
    both.target = target + other.target;
    both.share = share + other.share;
    both.pull = pull + other.pull;
    both.mass = mass + other.mass;
    *this = both;
  }
};

// Of a whole row.
template <class S>
SEQKERN_HD S row_loss(S peak, S log_sum, S pull, S mass, S z_loss) {
  const S lse = peak + log_sum;
  return (mass * log_sum - pull) + (z_loss == 0 ? S(0) : z_loss * lse * lse);
}

// The gradient of a row:  dz_v = p_v (of_p + of_pz (z_v - peak)) - q_v (of_q w_v + of_share) - w_v of_weight
template <class S>
struct RowGradient {
  S peak, log_sum;
  S of_p, of_pz, of_q, of_share, of_weight;
};

// d: upstream gradients, those that are absent 0. classes: V, of all shards.
template <class S>
SEQKERN_HD RowGradient<S> row_gradient(const SoftmaxOptions<S>& o, int64_t classes, S peak, S log_sum, S share, S mass, S mean,
                                       S d_loss, S d_log_probability, S d_log_sum_exp, S d_entropy) {
  RowGradient<S> g;
  g.peak = peak;
  g.log_sum = log_sum;
  g.of_p = d_loss * mass - d_log_probability * share + d_log_sum_exp + d_entropy * mean;
  if (o.z_loss != 0) g.of_p += d_loss * 2 * o.z_loss * (peak + log_sum);
  g.of_pz = -d_entropy;
  g.of_q = d_loss * (1 - o.smoothing);
  g.of_share = -d_log_probability;
  g.of_weight = d_loss * (o.smoothing / static_cast<S>(classes));
  return g;
}

}  // namespace seqkern::math
