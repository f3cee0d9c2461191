// The minimal gated unit: a GRU whose one gate f forgets and resets.
//
//   f = sigmoid(a_f)   n = tanh(W_ih x + b_ih + W_hh (f * h_prev) + b_hh)   h = (1 - f) * h_prev + f * n
//
// Gates in the order f, n. Source: Zhou, Wu, Zhang and Zhou 2016, "Minimal gated unit for recurrent neural networks".
#pragma once

#include "math/cell.h"

namespace seqkern::math {

struct MguCell : CellTraits<2, Candidate::gated> {
  template <class V>
  static SEQKERN_HD V gate(V (&s)[2], const V*) {
    return s[0] = sigmoid(s[0]);
  }

  template <class V>
  static SEQKERN_HD V forward(V (&s)[2], V h_prev, const V*) {
    s[1] = tanh_value(s[1]);
    return h_prev + s[0] * (s[1] - h_prev);
  }

  template <class V>
  static SEQKERN_HD V backward(const V (&s)[2], V h_prev, V dh, const V*, V (&d)[2], V*) {
    d[0] = dh * (s[1] - h_prev);  // the gradient of f as far as h shows it
    d[1] = dh * s[0] * tanh_slope(s[1]);
    return dh * (1 - s[0]);
  }

  template <class V>
  static SEQKERN_HD void backward_gate(const V (&s)[2], V h_prev, V d_gated, V (&d)[2], V& dh_prev) {
    d[0] = (d[0] + d_gated * h_prev) * sigmoid_slope(s[0]);
    dh_prev += d_gated * s[0];
  }
};

}  // namespace seqkern::math
