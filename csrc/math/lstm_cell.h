// The LSTM cell, and the LSTM with peephole connections.
//
//   i = sigmoid(a_i)   f = sigmoid(a_f)   g = tanh(a_g)   o = sigmoid(a_o)
//   c = f * c_prev + i * g                h = o * tanh(c)
//
// Gates in torch.nn.LSTM's order i, f, g, o. With peepholes p_i * c_prev, p_f * c_prev and p_o * c are added to a_i, a_f and a_o.
// Sources: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; peepholes of Gers and Schmidhuber 2000.
#pragma once

#include "math/cell.h"

namespace seqkern::math {

template <bool peephole>
struct LstmCellOf : CellTraits<4, Candidate::joined, true, peephole ? 3 : 0> {
  template <class V>
  static SEQKERN_HD V update(V (&s)[4], V c_prev, [[maybe_unused]] const V* w) {
    if constexpr (peephole) {
      s[0] += w[0] * c_prev;
      s[1] += w[1] * c_prev;
    }
    s[0] = sigmoid(s[0]);
    s[1] = sigmoid(s[1]);
    s[2] = tanh_value(s[2]);
    return cell_state(s, c_prev);
  }

  template <class V>
  static SEQKERN_HD V cell_state(const V (&s)[4], V c_prev) {
    return s[1] * c_prev + s[0] * s[2];
  }

  template <class V>
  static SEQKERN_HD V output(V (&s)[4], [[maybe_unused]] V c, V shown, [[maybe_unused]] const V* w) {
    if constexpr (peephole) s[3] += w[2] * c;
    s[3] = sigmoid(s[3]);
    return s[3] * tanh_value(shown);
  }

  template <class V>
  static SEQKERN_HD void backward_output(const V (&s)[4], [[maybe_unused]] V c, V shown, V dh, [[maybe_unused]] const V* w,
                                         V (&d)[4], [[maybe_unused]] V& dc, V& d_shown, [[maybe_unused]] V* dw) {
    const V tanh_c = tanh_value(shown);
    d[3] = dh * tanh_c * sigmoid_slope(s[3]);
    d_shown = dh * s[3] * tanh_slope(tanh_c);
    if constexpr (peephole) {
      dc += d[3] * w[2];
      dw[2] = d[3] * c;
    }
  }

  template <class V>
  static SEQKERN_HD V backward_update(const V (&s)[4], V c_prev, V dc, [[maybe_unused]] const V* w, V (&d)[4],
                                      [[maybe_unused]] V* dw) {
    d[0] = dc * s[2] * sigmoid_slope(s[0]);
    d[1] = dc * c_prev * sigmoid_slope(s[1]);
    d[2] = dc * s[0] * tanh_slope(s[2]);
    V dc_prev = dc * s[1];
    if constexpr (peephole) {
      dc_prev += d[0] * w[0] + d[1] * w[1];
      dw[0] = d[0] * c_prev;
      dw[1] = d[1] * c_prev;
    }
    return dc_prev;
  }
};

using LstmCell = LstmCellOf<false>;
using PeepholeLstmCell = LstmCellOf<true>;

}  // namespace seqkern::math
