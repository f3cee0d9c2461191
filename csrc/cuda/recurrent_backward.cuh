// The pointwise part of one recurrent step, backward, for every cell of math/cells.h.
#pragma once

#include "cuda/recurrent.cuh"

namespace seqkern::cuda {

// How the gradient of the state after a step comes together.
template <class T>
struct Arrival {
  using S = Sum<T>;

  const RecurrentArriveParams<T>& p;
  Row row;
  int64_t row_at_step;  // in arrays of several steps
  bool taken, next_taken;
  Entry next;  // the state that the next step began with

  // step + 1: p.steps after the last step.
  SEQKERN_DEVICE Arrival(const RecurrentArriveParams<T>& p, const Row& row, int64_t step, int64_t shift)
      : p(p),
        row(row),
        row_at_step(row.index + shift * p.batch * p.heads),
        taken(step >= 0 && cuda::taken(p, step, row.sequence)),
        next_taken(step + 1 < p.steps && cuda::taken(p, step + 1, row.sequence)),
        next(step + 1 < p.steps ? entry(p, step + 1, row.sequence) : Entry::previous) {}

  // The gradient of h: handed on where the step is not taken (0 is left for the step then). product: the gradient of what entered
  // the next step's product.
  SEQKERN_DEVICE S operator()(int64_t j, S product) const {
    const int64_t at = row.index * p.state_size + j;
    S d = p.d_direct ? p.d_direct[at] : S(0);
    if (next_taken) d += p.recurrent_mask ? product * to_sum(p.recurrent_mask[at]) : product;
    if (next == Entry::initial && p.d_h_0) p.d_h_0[at] += d;
    if (next != Entry::previous) d = 0;
    if (p.d_direct) p.d_direct[at] = taken ? S(0) : d;
    return taken ? d + value_or_zero(p.d_output, row_at_step * p.state_size + j) : S(0);
  }
  SEQKERN_DEVICE S operator()(int64_t j) const {
    return (*this)(j, next_taken ? p.d_product[row.by_head * p.state_size + j] : S(0));
  }
};

template <class Cell, class T>
struct Backward : CellRow<Cell, T> {
  using S = Sum<T>;
  using CellRow<Cell, T>::G, CellRow<Cell, T>::kSlots;

  const RecurrentStepBackwardParams<T>& p;

  SEQKERN_DEVICE Backward(const RecurrentStepBackwardParams<T>& p, const Row& row, int64_t step, int64_t shift)
      : CellRow<Cell, T>(p, row, step, shift), p(p) {}

  SEQKERN_DEVICE S h_prev(int64_t j) const {
    if (this->from == Entry::previous) return to_sum(p.h_prev[this->unit_at_step(j)]);
    return this->from == Entry::initial ? value_or_zero(p.h_0, this->unit(j)) : S(0);
  }
  SEQKERN_DEVICE S c_prev(int64_t j) const {
    if (this->from == Entry::previous) return p.c_prev[this->unit_at_step(j)];
    return this->from == Entry::initial ? value_or_zero(p.c_0, this->unit(j)) : S(0);
  }

  // A unit as forward left it, and the gradients that come of it.
  struct Unit {
    S s[kSlots], d[kSlots];
    S dw[Cell::kParameters > 0 ? Cell::kParameters : 1];
    math::CellState<S> previous;
    typename CellRow<Cell, T>::Parameters w;
    S zoneout_h;
    S dh;        // of the cell's h
    S d_direct;  // of the entering h, by zoneout
  };
  SEQKERN_DEVICE Unit load(int64_t j) const {
    Unit unit{};
    this->load_slots(p.slots, p.hidden_slot, j, unit.s);
    if constexpr (Cell::kHasCell)
      unit.previous.c = c_prev(j);
    else
      unit.previous.h = h_prev(j);
    unit.w = this->parameters(p.weight_cell, j);
    unit.zoneout_h = value_or_zero(p.zoneout_h, this->unit_at_step(j));
    return unit;
  }
  // Takes the gradient of h.
  static SEQKERN_DEVICE void arrive(Unit& unit, S dh) {
    unit.d_direct = dh * unit.zoneout_h;
    unit.dh = dh - unit.d_direct;
  }
  SEQKERN_DEVICE Unit load(int64_t j, S dh) const {
    Unit unit = load(j);
    arrive(unit, dh);
    return unit;
  }

  // c as the output sees it.
  SEQKERN_DEVICE S shown(int64_t j, S normal) const {
    return normal * to_sum(p.norm_c[this->column(j)]) + value_or_zero(p.norm_c_bias, this->column(j));
  }

  // Of a whole row, whose dh is in d_cell_h: the gradient of c by its layer norm.
  SEQKERN_DEVICE NormGradient<S> normed_c_gradient() const {
    S ones = 0, normals = 0;
    for_each_unit(p.hidden_size, [&](int64_t j) {
      Unit unit = load(j, p.d_cell_h[this->unit(j)]);
      const S normal = p.cc.normal[this->unit_at_step(j)], c = Cell::cell_state(unit.s, unit.previous.c);
      S dc = 0, d_shown;
      Cell::backward_output(unit.s, c, shown(j, normal), unit.dh, unit.w.w, unit.d, dc, d_shown, unit.dw);
      const S d_normal = d_shown * to_sum(p.norm_c[this->column(j)]);
      ones += d_normal;
      normals += d_normal * normal;
    });
    return NormGradient<S>::of_sums(p.cc.scale[this->row_at_step], ones, normals, p.hidden_size);
  }

  template <bool normed>
  SEQKERN_DEVICE void through_cell_state(int64_t j, Unit& unit, [[maybe_unused]] const NormGradient<S>& of_normal) const {
    const int64_t u = this->unit_at_step(j);
    const S previous = unit.previous.c, c = Cell::cell_state(unit.s, previous);
    S dc = p.d_c[this->unit(j)] + value_or_zero(p.d_cells, u), d_shown;
    const S past = dc * value_or_zero(p.zoneout_c, u);
    dc -= past;
    if (normed && p.norm_c) {
      const S normal = p.cc.normal[u];
      Cell::backward_output(unit.s, c, shown(j, normal), unit.dh, unit.w.w, unit.d, dc, d_shown, unit.dw);
      if (p.d_norm_c) p.d_norm_c[this->unit(j)] += d_shown * normal;
      if (p.d_norm_c_bias) p.d_norm_c_bias[this->unit(j)] += d_shown;
      d_shown = of_normal(d_shown * to_sum(p.norm_c[this->column(j)]), normal);
    } else {
      Cell::backward_output(unit.s, c, c, unit.dh, unit.w.w, unit.d, dc, d_shown, unit.dw);
    }
    leave_c(j, Cell::backward_update(unit.s, previous, dc + d_shown, unit.w.w, unit.d, unit.dw) + past);
  }

  // The gradient of the entering c.
  SEQKERN_DEVICE void leave_c(int64_t j, S dc) const {
    const int64_t u = this->unit(j);
    if (this->from == Entry::initial && p.d_c_0) p.d_c_0[u] += dc;
    p.d_c[u] = this->from == Entry::previous ? dc : S(0);
  }

  // Of a gated candidate: the gradient of its pre-activation, before d_gated is there.
  SEQKERN_DEVICE S candidate(Unit& unit) const {
    Cell::backward(unit.s, unit.previous.h, unit.dh, unit.w.w, unit.d, unit.dw);
    return unit.d[G - 1];
  }

  // The unit's gradients, once dh has arrived. d_gated: of the candidate's product input, where that is gated.
  template <bool normed>
  SEQKERN_DEVICE void differentiate(int64_t j, Unit& unit, [[maybe_unused]] S d_gated, const NormGradient<S>& of_normal) const {
    const int64_t u = this->unit(j);
    if constexpr (Cell::kHasCell) {
      through_cell_state<normed>(j, unit, of_normal);
    } else {
      unit.d_direct += Cell::backward(unit.s, unit.previous.h, unit.dh, unit.w.w, unit.d, unit.dw);
      if constexpr (kGated<Cell>) through_gate(j, d_gated, unit);
    }
    if (p.d_direct) p.d_direct[u] = unit.d_direct;
    for (int i = 0; i < Cell::kParameters; ++i)
      if (p.d_weight_cell)
        p.d_weight_cell[(this->row.sequence * Cell::kParameters + i) * p.heads * p.hidden_size + this->column(j)] += unit.dw[i];
    for (int i = 0; i < G && p.d_gates_x; ++i)
      from_sum(unit.d[i], p.d_gates_x[this->gate_at_step(math::gate_of_input_slot<Cell>(i), j)]);
  }

  SEQKERN_DEVICE void through_gate(int64_t j, S d_gated, Unit& unit) const {
    const S mask = p.recurrent_mask ? to_sum(p.recurrent_mask[this->unit(j)]) : S(1), previous = unit.previous.h;
    S gate = 0, ignored[kSlots] = {};
    Cell::backward_gate(unit.s, S(0), S(1), ignored, gate);  // what a gradient of 1 comes to is the gate
    from_sum(gate * mask * previous, p.gated[this->unit_at_step(j)]);
    Cell::backward_gate(unit.s, previous, d_gated * mask, unit.d, unit.d_direct);
  }

  // The gradient of a gate's hidden part, W_hh h or its layer norm, plus b_hh.
  static SEQKERN_DEVICE S of_hidden_part(const Unit& unit, int gate) { return unit.d[kSlots - G + gate]; }
  // Leaves those of all gates.
  template <bool normed>
  SEQKERN_DEVICE void leave_hidden_parts(int64_t j, const Unit& unit) const {
    for (int g = 0; g < G; ++g) {
      const int64_t at = this->gate_at_step(g, j), of_sequence = (this->row.index * G + g) * p.hidden_size + j;
      const S d = of_hidden_part(unit, g);
      if (normed && p.norm_hh) {
        if (p.d_bias_hh) p.d_bias_hh[of_sequence] += d;
        if (p.d_norm_hh) p.d_norm_hh[of_sequence] += d * p.hh.normal[at];
        p.d_normed_h[of_sequence] = d * to_sum(p.norm_hh[this->column_of_gate(g, j)]);
      } else if (p.d_gates_h) {
        from_sum(d, p.d_gates_h[at]);
      }
    }
  }

  // Of a whole row: through the layer norm of the gates' hidden part.
  SEQKERN_DEVICE void through_normed_gates() const {
    S ones = 0, normals = 0;
    const auto for_each = [&](const auto& body) {
      for_each_unit(p.hidden_size, [&](int64_t j) {
        for (int g = 0; g < G; ++g) body(this->gate_at_step(g, j), (this->row.index * G + g) * p.hidden_size + j);
      });
    };
    for_each([&](int64_t at, int64_t of_sequence) {
      ones += p.d_normed_h[of_sequence];
      normals += p.d_normed_h[of_sequence] * p.hh.normal[at];
    });
    const auto gradient = NormGradient<S>::of_sums(p.hh.scale[this->row_at_step], ones, normals, G * p.hidden_size);
    for_each([&](int64_t at, int64_t of_sequence) {
      from_sum(gradient(p.d_normed_h[of_sequence], p.hh.normal[at]), p.d_gates_h[at]);
    });
  }

  // Where the step is not taken: zeros, and the gradient of the state stays as it is, until it is the initial state's.
  SEQKERN_DEVICE void skip(int64_t j) const {
    if constexpr (Cell::kHasCell) leave_c(j, p.d_c[this->unit(j)]);
    if constexpr (kGated<Cell>) from_sum(S(0), p.gated[this->unit_at_step(j)]);
    for (int g = 0; g < G; ++g) {
      if (p.d_gates_x) from_sum(S(0), p.d_gates_x[this->gate_at_step(g, j)]);
      if (p.d_gates_h) from_sum(S(0), p.d_gates_h[this->gate_at_step(g, j)]);
    }
  }
};

}  // namespace seqkern::cuda
