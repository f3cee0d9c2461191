// What a cell is: the pointwise part of one step of a recurrence, for one hidden unit of one sequence.
//
// A cell has G gates. Of every gate the kernels compute the pre-activation
//
//   a = W_ih x + b_ih + W_hh h_prev + b_hh
//
// and hand it to the cell in a slot; the cell replaces it by what its backward pass needs (mostly the activation), and yields the
// next state. The kernels own all memory, products, loops and threads; a cell is arithmetic only. V is float, double or a SIMD
// vector of them (math/activations.h).
//
// A cell is a struct derived from CellTraits with these static functions; s are the slots, w the cell's own parameters of the
// unit (kParameters of them):
//
//   without a cell state:
//     forward(s, h_prev, w) -> h                      pre-activations to what backward needs
//     backward(s, h_prev, dh, w, d, dw) -> dh_prev    d: gradients of the pre-activations; dh_prev: what does not pass W_hh
//   with a cell state c:
//     update(s, c_prev, w) -> c
//     output(s, c, shown, w) -> h                     shown: c, or its layer norm
//     cell_state(s, c_prev) -> c                      again, from what backward has
//     backward_output(s, c, shown, dh, w, d, dc, d_shown, dw)   adds to dc, sets d_shown
//     backward_update(s, c_prev, dc, w, d, dw) -> dc_prev
//   with a gated candidate, besides:
//     gate(s, w) -> g                                 before the candidate's product; leaves g in slot 0
//     backward_gate(s, h_prev, d_gated, d, dh_prev)   after it: d_gated is the gradient of g * h_prev
#pragma once

#include "math/activations.h"

namespace seqkern::math {

// How the last gate, the candidate, takes the hidden state.
enum class Candidate {
  joined,  // like every gate: one slot for the sum of input and hidden part
  apart,   // input part and hidden part stay apart: slots are [input part, the other gates, hidden part]
  gated,   // its hidden part is W_hh (g * h_prev) with a gate g of this step: a second product, after the other gates
};

template <int G, Candidate candidate = Candidate::joined, bool has_cell = false, int parameters = 0>
struct CellTraits {
  static constexpr int kGates = G;
  static constexpr Candidate kCandidate = candidate;
  static constexpr bool kHasCell = has_cell;
  static constexpr int kParameters = parameters;
  static constexpr int kSlots = G + (candidate == Candidate::apart ? 1 : 0);
};

// The gates whose input part and hidden part fill the slots: input parts are in slots [0, G), hidden parts in the last G.
template <class Cell>
constexpr int gate_of_input_slot(int slot) {
  return Cell::kCandidate != Candidate::apart ? slot : slot == 0 ? Cell::kGates - 1 : slot - 1;
}
template <class Cell>
constexpr int gate_of_hidden_slot(int slot) {
  return slot - (Cell::kSlots - Cell::kGates);
}

template <class V>
struct CellState {
  V h, c;  // c: in cells that have one
};

// Zoneout: how much of the old value stays. Exact at 0 and 1. Source: Krueger et al. 2017.
template <class V>
SEQKERN_HD V zone_out(V factor, V old_value, V new_value) {
  return factor * old_value + (1 - factor) * new_value;
}

// state: previous in, next out.
template <class Cell, class V>
SEQKERN_HD void cell_forward(V (&s)[Cell::kSlots], CellState<V>& state, const V* w) {
  if constexpr (Cell::kHasCell) {
    state.c = Cell::update(s, state.c, w);
    state.h = Cell::output(s, state.c, state.c, w);
  } else {
    state.h = Cell::forward(s, state.h, w);
  }
}

// gradient: of the next state in; out, of the previous state, in h only what does not pass through the products.
// d: gradients of the pre-activations (of a gated candidate's other gates: until backward_gate). dw: gradients of w.
template <class Cell, class V>
SEQKERN_HD void cell_backward(const V (&s)[Cell::kSlots], const CellState<V>& previous, CellState<V>& gradient, const V* w,
                              V (&d)[Cell::kSlots], V* dw) {
  if constexpr (Cell::kHasCell) {
    const V c = Cell::cell_state(s, previous.c);
    V d_shown;
    Cell::backward_output(s, c, c, gradient.h, w, d, gradient.c, d_shown, dw);
    gradient.c = Cell::backward_update(s, previous.c, gradient.c + d_shown, w, d, dw);
    gradient.h = V{};
  } else {
    gradient.h = Cell::backward(s, previous.h, gradient.h, w, d, dw);
  }
}

}  // namespace seqkern::math
