// The pointwise part of one recurrent step, forward, for every cell of math/cells.h.
#pragma once

#include "cuda/recurrent.cuh"

namespace seqkern::cuda {

template <class Cell, class T>
struct Forward : CellRow<Cell, T> {
  using S = Sum<T>;
  using CellRow<Cell, T>::G, CellRow<Cell, T>::kSlots;
  static constexpr int kHiddenGates = kGated<Cell> ? G - 1 : G;  // of gates_h

  const RecurrentStepForwardParams<T>& p;
  Entry next;  // the state that the next step begins with
  Moments<S> hh{};

  SEQKERN_DEVICE Forward(const RecurrentStepForwardParams<T>& p, const Row& row, int64_t step, int64_t shift)
      : CellRow<Cell, T>(p, row, step, shift),
        p(p),
        next(step + 1 < p.steps ? entry(p, step + 1, row.sequence) : Entry::previous) {}

  SEQKERN_DEVICE S h_prev(int64_t j) const {
    if (this->from == Entry::previous) return to_sum(p.h_prev[this->unit_at_step(j)]);
    return this->from == Entry::initial ? value_or_zero(p.h_0, this->unit(j)) : S(0);
  }
  SEQKERN_DEVICE S c_prev(int64_t j) const { return entering(this->from, p.c, p.c_0, this->unit(j)); }

  // A unit at the beginning of its step: its slots hold all but the hidden parts of the pre-activations.
  struct Unit {
    S s[kSlots];
    math::CellState<S> previous;
    typename CellRow<Cell, T>::Parameters w;
  };
  SEQKERN_DEVICE Unit load(int64_t j) const {
    Unit unit{};
    for (int i = 0; i < G; ++i) {
      const int g = math::gate_of_input_slot<Cell>(i);
      unit.s[i] = p.gates_x[this->gate_at_step(g, j)] + value_or_zero(p.bias_ih, this->column_of_gate(g, j));
    }
    for (int g = 0; g < G; ++g) add_hidden(unit, g, value_or_zero(p.bias_hh, this->column_of_gate(g, j)));
    if constexpr (Cell::kHasCell)
      unit.previous.c = c_prev(j);
    else
      unit.previous.h = h_prev(j);
    unit.w = this->parameters(p.weight_cell, j);
    return unit;
  }
  static SEQKERN_DEVICE void add_hidden(Unit& unit, int gate, S hidden) {
    for (int i = kSlots - G; i < kSlots; ++i)
      if (math::gate_of_hidden_slot<Cell>(i) == gate) unit.s[i] += hidden;
  }

  SEQKERN_DEVICE void take_moments_of_gates() {
    const int64_t size = G * p.hidden_size;
    hh = moments(p.gates_h + this->row.by_head * size, size);
    if (p.hh.scale && thread_index() == 0) p.hh.scale[this->row_at_step] = hh.scale;
  }

  SEQKERN_DEVICE S gates_h(int g, int64_t j) const {
    return p.gates_h[(this->row.by_head * kHiddenGates + g) * p.hidden_size + j];
  }
  // Adds W_hh h of the gates, layer-normed if it is to be.
  template <bool normed>
  SEQKERN_DEVICE void add_gates_h(int64_t j, Unit& unit) const {
    for (int g = 0; g < kHiddenGates; ++g) {
      S a = gates_h(g, j);
      if (normed && p.norm_hh) {
        a = (a - hh.mean) * hh.scale;
        if (p.hh.normal) p.hh.normal[this->gate_at_step(g, j)] = a;
        a *= to_sum(p.norm_hh[this->column_of_gate(g, j)]);
      }
      add_hidden(unit, g, a);
    }
  }

  SEQKERN_DEVICE void store_slots(int64_t j, const S (&s)[kSlots]) const {
    if (p.slots) CellRow<Cell, T>::store_slots(p.slots, p.hidden_slot, j, s);
  }

  // Of a gated candidate: the input of its product with W_hh, once the other gates have their hidden parts.
  SEQKERN_DEVICE S gated(int64_t j, Unit& unit) const {
    if constexpr (kGated<Cell>) {
      const S value = Cell::gate(unit.s, unit.w.w) * unit.previous.h;
      return p.recurrent_mask ? value * to_sum(p.recurrent_mask[this->unit(j)]) : value;
    }
    return 0;
  }

  // The rest of the step, once all hidden parts are there. Returns what enters the next step's product.
  SEQKERN_DEVICE S finish(int64_t j, Unit& unit) const {
    if constexpr (kGated<Cell>) Cell::gate(unit.s, unit.w.w);
    math::CellState<S> state = unit.previous;
    math::cell_forward<Cell>(unit.s, state, unit.w.w);
    const S handed_on = leave(j, state, unit.previous);
    store_slots(j, unit.s);
    return handed_on;
  }

  // Leaves the cell's h and c. previous: the state that the step began with.
  SEQKERN_DEVICE S leave(int64_t j, math::CellState<S> state, [[maybe_unused]] const math::CellState<S>& previous) const {
    const int64_t u = this->unit_at_step(j);
    const S h = state.h;
    if (p.zoneout_h) state.h = math::zone_out(to_sum(p.zoneout_h[u]), h_prev(j), state.h);
    const S handed_on = leave_h(j, state.h);
    if constexpr (Cell::kHasCell) {
      if (p.zoneout_c) state.c = math::zone_out(to_sum(p.zoneout_c[u]), previous.c, state.c);
      p.c[this->unit(j)] = state.c;
      if (p.cells) p.cells[u] = state.c;
    }
    if (p.cell_h) p.cell_h[u] = h;
    return handed_on;
  }

  SEQKERN_DEVICE S leave_h(int64_t j, S h) const {
    T rounded;
    from_sum(h, rounded);
    if (p.h) p.h[this->unit_at_step(j)] = rounded;
    S handed_on = next == Entry::previous ? to_sum(rounded) : next == Entry::initial ? value_or_zero(p.h_0, this->unit(j)) : S(0);
    if (p.recurrent_mask) handed_on *= to_sum(p.recurrent_mask[this->unit(j)]);
    return handed_on;
  }

  // Where the step is not taken: zeros, and the state stays as it is.
  SEQKERN_DEVICE S skip(int64_t j) const {
    const int64_t u = this->unit_at_step(j);
    if (Cell::kHasCell && p.cells) p.cells[u] = 0;
    if (p.cell_h) p.cell_h[u] = 0;
    return leave_h(j, 0);
  }
};

}  // namespace seqkern::cuda
