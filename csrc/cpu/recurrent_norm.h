// Layer normalisation of a row, forward and backward. Source: Ba, Kiros and Hinton 2016.
#pragma once

#include "cpu/simd.h"

namespace seqkern::cpu::SEQKERN_ISA {

// x becomes (x - mean) / deviation, with deviation = sqrt(variance + 1e-5); returns 1 / deviation.
template <class S>
S normalise(S* x, int64_t size) {
  S mean = 0, variance = 0;
  for (int64_t i = 0; i < size; ++i) mean += x[i];
  mean /= static_cast<S>(size);
  for (int64_t i = 0; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
  const S scale = 1 / std::sqrt(variance / static_cast<S>(size) + S(1e-5));
  for (int64_t i = 0; i < size; ++i) x[i] = (x[i] - mean) * scale;
  return scale;
}

// d: gradient of the normalised row in, of the row before it out.
template <class S>
void normalise_backward(const S* normed, S scale, S* d, int64_t size) {
  S mean = 0, along = 0;
  for (int64_t i = 0; i < size; ++i) {
    mean += d[i];
    along += d[i] * normed[i];
  }
  mean /= static_cast<S>(size);
  along /= static_cast<S>(size);
  for (int64_t i = 0; i < size; ++i) d[i] = scale * (d[i] - mean - normed[i] * along);
}

}  // namespace seqkern::cpu::SEQKERN_ISA
