// The LSTM cell: the pointwise part of one step, forward and backward.
//
//   i = sigmoid(a_i)   f = sigmoid(a_f)   g = tanh(a_g)   o = sigmoid(a_o)
//   c = f * c_prev + i * g                h = o * tanh(c)
//
// a = W_ih x + b_ih + W_hh h_prev + b_hh, gates in torch.nn.LSTM's order i, f, g, o.
// Source: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; torch.nn.LSTM's documentation.
//
// V is float, double or a SIMD vector of them (math/activations.h).
#pragma once

#include "math/activations.h"

namespace seqkern::math {

struct LstmCell {
  static constexpr int kGates = 4;

  // gates: pre-activations in, activations out (what backward needs). Returns h; c is the new cell state.
  template <class V>
  static SEQKERN_HD V forward(V (&gates)[kGates], V c_prev, V& c) {
    gates[0] = sigmoid(gates[0]);
    gates[1] = sigmoid(gates[1]);
    gates[2] = tanh_value(gates[2]);
    gates[3] = sigmoid(gates[3]);
    c = gates[1] * c_prev + gates[0] * gates[2];
    return gates[3] * tanh_value(c);
  }

  // gates: activations in, gradients of the pre-activations out.
  // dh: gradient of h. dc: gradient of c from the next step in, gradient of c_prev out.
  template <class V>
  static SEQKERN_HD void backward(V (&gates)[kGates], V c_prev, V c, V dh, V& dc) {
    const V i = gates[0], f = gates[1], g = gates[2], o = gates[3];
    const V tanh_c = tanh_value(c);
    dc += dh * o * tanh_slope(tanh_c);
    gates[0] = dc * g * sigmoid_slope(i);
    gates[1] = dc * c_prev * sigmoid_slope(f);
    gates[2] = dc * i * tanh_slope(g);
    gates[3] = dh * tanh_c * sigmoid_slope(o);
    dc *= f;
  }
};

}  // namespace seqkern::math
