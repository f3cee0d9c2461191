// The types of tensors as kernels name them (float, double, BFloat16, Float16), and the type each is summed in.
#pragma once

#include <cstdint>

namespace seqkern::math {

// Half-precision values as storage: bfloat16 is the upper half of a float32, Float16 is IEEE binary16. Arithmetic is in float32.
struct BFloat16 {
  uint16_t bits;
};
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

}  // namespace seqkern::math
