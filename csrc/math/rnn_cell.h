// The simple recurrent cell: h = tanh(a), or h = max(a, 0). Source: Elman 1990; torch.nn.RNN.
#pragma once

#include "math/cell.h"

namespace seqkern::math {

struct RnnTanhCell : CellTraits<1> {
  template <class V>
  static SEQKERN_HD V forward(V (&s)[1], V, const V*) {
    return s[0] = tanh_value(s[0]);
  }

  template <class V>
  static SEQKERN_HD V backward(const V (&s)[1], V, V dh, const V*, V (&d)[1], V*) {
    d[0] = dh * tanh_slope(s[0]);
    return V{};
  }
};

struct RnnReluCell : CellTraits<1> {
  template <class V>
  static SEQKERN_HD V forward(V (&s)[1], V, const V*) {
    return s[0] = s[0] < 0 ? V{} : s[0];  // keeps NaN
  }

  template <class V>
  static SEQKERN_HD V backward(const V (&s)[1], V, V dh, const V*, V (&d)[1], V*) {
    d[0] = s[0] <= 0 ? V{} : dh;
    return V{};
  }
};

}  // namespace seqkern::math
