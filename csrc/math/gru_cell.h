// The gated recurrent unit, in its two forms:
//
//   r = sigmoid(a_r)   z = sigmoid(a_z)   h = (1 - z) * n + z * h_prev
//   reset after the product:   n = tanh(W_ih x + b_ih + r * (W_hh h_prev + b_hh))     (torch.nn.GRU, cuDNN)
//   reset before the product:  n = tanh(W_ih x + b_ih + W_hh (r * h_prev) + b_hh)     (Cho et al. 2014)
//
// Gates in torch.nn.GRU's order r, z, n.
#pragma once

#include "math/cell.h"

namespace seqkern::math {

// Slots: the candidate's input part (then n), r, z, the candidate's hidden part.
struct GruCell : CellTraits<3, Candidate::apart> {
  template <class V>
  static SEQKERN_HD V forward(V (&s)[4], V h_prev, const V*) {
    s[1] = sigmoid(s[1]);
    s[2] = sigmoid(s[2]);
    s[0] = tanh_value(s[0] + s[1] * s[3]);
    return s[0] + s[2] * (h_prev - s[0]);
  }

  template <class V>
  static SEQKERN_HD V backward(const V (&s)[4], V h_prev, V dh, const V*, V (&d)[4], V*) {
    d[0] = dh * (1 - s[2]) * tanh_slope(s[0]);
    d[1] = d[0] * s[3] * sigmoid_slope(s[1]);
    d[2] = dh * (h_prev - s[0]) * sigmoid_slope(s[2]);
    d[3] = d[0] * s[1];
    return dh * s[2];
  }
};

// Slots: r, z, n.
struct GruResetBeforeCell : CellTraits<3, Candidate::gated> {
  template <class V>
  static SEQKERN_HD V gate(V (&s)[3], const V*) {
    return s[0] = sigmoid(s[0]);
  }

  template <class V>
  static SEQKERN_HD V forward(V (&s)[3], V h_prev, const V*) {
    s[1] = sigmoid(s[1]);
    s[2] = tanh_value(s[2]);
    return s[2] + s[1] * (h_prev - s[2]);
  }

  template <class V>
  static SEQKERN_HD V backward(const V (&s)[3], V h_prev, V dh, const V*, V (&d)[3], V*) {
    d[1] = dh * (h_prev - s[2]) * sigmoid_slope(s[1]);
    d[2] = dh * (1 - s[1]) * tanh_slope(s[2]);
    return dh * s[1];
  }

  template <class V>
  static SEQKERN_HD void backward_gate(const V (&s)[3], V h_prev, V d_gated, V (&d)[3], V& dh_prev) {
    d[0] = d_gated * h_prev * sigmoid_slope(s[0]);
    dh_prev += d_gated * s[0];
  }
};

}  // namespace seqkern::math
