// Activations and their derivatives, written once for scalars (host and CUDA) and for SIMD vectors.
//
// The type V is float, double, or a SIMD vector of them; for vectors, cpu/simd.h is included before this header.
#pragma once

#include "math/primitives.h"

namespace seqkern::math {

// 1 / (1 + exp(-x)); saturates to 0 and 1 without overflow, since exp may reach infinity.
template <class V>
SEQKERN_HD V sigmoid(V x) {
  return reciprocal(1 + exp_value(-x));
}

// Derivatives by the value y of the activation.
template <class V>
SEQKERN_HD V sigmoid_slope(V y) {
  return y * (1 - y);
}

template <class V>
SEQKERN_HD V tanh_slope(V y) {
  return 1 - y * y;
}

}  // namespace seqkern::math
