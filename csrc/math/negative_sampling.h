// The loss of negative sampling, of one hidden state h and one word's vector w.
//
//   z = -h . w  for the word that was seen (label 1),  z = h . w  for a negative (label 0)
//   loss = log(1 + exp(z))         the binary cross-entropy of sigmoid(h . w) and the label; -log sigmoid(-z)
//   dloss / dz = sigmoid(z)
//
// exp is taken of -|z| alone, so that neither overflows, and both keep their relative precision where they are small. Source:
// Mikolov et al. 2013, "Distributed representations of words and phrases and their compositionality", equation 4.
#pragma once

#include "math/primitives.h"

namespace seqkern::math {

template <class V>
struct PairLoss {
  V loss, slope;
};

// V: float, double, or a SIMD vector of them (cpu/simd.h is then included before this header).
template <class V>
SEQKERN_HD PairLoss<V> pair_loss(V z) {
  const V none{};
  const V e = exp_value(z > 0 ? -z : z);
  const V inverse = reciprocal(1 + e);
  return {(z > 0 ? z : none) + log1p_value(e), z > 0 ? inverse : e * inverse};
}

}  // namespace seqkern::math
