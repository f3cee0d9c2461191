// The types of tensors as CUDA kernels name them (float, double, math::BFloat16, Float16), and the type each is summed in.
#pragma once

#include <cstdint>

#include "math/bfloat16.h"

namespace seqkern::cuda {

// IEEE float16 as storage. Arithmetic is done in float32.
struct Float16 {
  uint16_t bits;
};

template <class T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <class T>
using Sum = typename SumOf<T>::type;

}  // namespace seqkern::cuda
