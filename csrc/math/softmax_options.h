// What callers of the softmax-loss kernels know of math/softmax.h: the options of a loss, and the numbers of a row.
#pragma once

namespace seqkern::math {

// The numbers that a row leaves, in rows of a matrix [kRowNumbers, R]: backward begins from them, and shards are merged by them.
enum RowNumber {
  kRowLoss,    // before any mean; 0 where the target is ignored, as all others then are
  kRowPeak,    // max_v z_v
  kRowLogSum,  // log sum_v exp(z_v - peak), so that lse = peak + log sum
  kRowTarget,  // sum_v q_v (z_v - peak)
  kRowShare,   // sum_v q_v
  kRowPull,    // sum_v a_v (z_v - peak)
  kRowMass,    // sum_v a_v
  kRowMean,    // sum_v p_v (z_v - peak), if asked for
  kRowNumbers
};

// Gradients of the loss with respect to what a row yields, in rows of a matrix [kRowGradients, R].
enum RowGradientOf { kOfLoss, kOfLogProbability, kOfLogSumExp, kOfEntropy, kRowGradients };

// Options of a loss. S: the type of sums.
template <class S>
struct SoftmaxOptions {
  S smoothing;  // s
  S z_loss;     // k
  S cap;        // 0: none
  S scale;      // 1 / temperature
};

}  // namespace seqkern::math
