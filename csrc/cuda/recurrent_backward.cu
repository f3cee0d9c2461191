// The pointwise part of one recurrent step on CUDA, backward, for every cell of math/cells.h.
#include "cuda/recurrent.h"

#include "cuda/recurrent.cuh"

namespace seqkern::cuda {
namespace {

// How the gradient of the state after a step comes together.
template <class T>
struct Arrival {
  using S = Sum<T>;

  const RecurrentArriveParams<T>& p;
  Row row;
  bool taken, next_taken;
  Entry next;  // the state that the next step began with

  SEQKERN_DEVICE Arrival(const RecurrentArriveParams<T>& p, const Row& row)
      : p(p),
        row(row),
        taken(cuda::taken(p, p.step, row.sequence)),
        next_taken(p.d_product && cuda::taken(p, p.step + 1, row.sequence)),
        next(p.d_product ? entry(p, p.step + 1, row.sequence) : Entry::previous) {}

  // The gradient of h: handed on where the step is not taken (0 is left for the step then).
  SEQKERN_DEVICE S operator()(int64_t j) const {
    const int64_t at = row.index * p.state_size + j;
    S d = p.d_direct ? p.d_direct[at] : S(0);
    if (next_taken) {
      S through = p.d_product[row.by_head * p.state_size + j];
      if (p.recurrent_mask) through *= to_sum(p.recurrent_mask[at]);
      d += through;
    }
    if (next == Entry::initial && p.d_h_0) p.d_h_0[at] += d;
    if (next != Entry::previous) d = 0;
    if (p.d_direct) p.d_direct[at] = taken ? S(0) : d;
    return taken ? d + value_or_zero(p.d_output, at) : S(0);
  }
};

template <class T>
SEQKERN_KERNEL(kThreads)
arrive(RecurrentArriveParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Arrival<T> arrival(p, row);
    for_each_unit(p.state_size, [&](int64_t j) {
      const Sum<T> d = arrival(j);
      if (p.d_h) from_sum(d, p.d_h[row.index * p.state_size + j]);
    });
  });
}

template <class Cell, class T>
struct Backward : CellRow<Cell, T> {
  using S = Sum<T>;
  using CellRow<Cell, T>::G, CellRow<Cell, T>::kSlots;

  const RecurrentStepBackwardParams<T>& p;

  SEQKERN_DEVICE Backward(const RecurrentStepBackwardParams<T>& p, const Row& row) : CellRow<Cell, T>(p, row), p(p) {}

  SEQKERN_DEVICE S h_prev(int64_t j) const { return entering(this->from, p.h_prev, p.h_0, this->unit(j)); }
  SEQKERN_DEVICE S c_prev(int64_t j) const { return entering(this->from, p.c_prev, p.c_0, this->unit(j)); }

  // What the cell's backward pass begins with.
  struct Unit {
    S s[kSlots], d[kSlots];
    S dw[Cell::kParameters > 0 ? Cell::kParameters : 1];
    S dh;        // of the cell's h
    S d_direct;  // of the entering h, by zoneout
  };
  SEQKERN_DEVICE Unit load(int64_t j, S dh) const {
    Unit unit{};
    this->load_slots(p.slots, p.hidden_slot, j, unit.s);
    unit.d_direct = dh * value_or_zero(p.zoneout_h, this->unit(j));
    unit.dh = dh - unit.d_direct;
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
      const S normal = p.cc.normal[this->unit(j)], c = Cell::cell_state(unit.s, c_prev(j));
      S dc = 0, d_shown;
      Cell::backward_output(unit.s, c, shown(j, normal), unit.dh, this->parameters(p.weight_cell, j).w, unit.d, dc, d_shown,
                            unit.dw);
      const S d_normal = d_shown * to_sum(p.norm_c[this->column(j)]);
      ones += d_normal;
      normals += d_normal * normal;
    });
    return NormGradient<S>::of_sums(p.cc.scale[this->row.index], ones, normals, p.hidden_size);
  }

  template <bool normed>
  SEQKERN_DEVICE void through_cell_state(int64_t j, Unit& unit, [[maybe_unused]] const NormGradient<S>& of_normal) const {
    const int64_t u = this->unit(j);
    const auto w = this->parameters(p.weight_cell, j);
    const S previous = c_prev(j), c = Cell::cell_state(unit.s, previous);
    S dc = p.d_c[u] + value_or_zero(p.d_cells, u), d_shown;
    const S past = dc * value_or_zero(p.zoneout_c, u);
    dc -= past;
    if (normed && p.norm_c) {
      const S normal = p.cc.normal[u];
      Cell::backward_output(unit.s, c, shown(j, normal), unit.dh, w.w, unit.d, dc, d_shown, unit.dw);
      if (p.d_norm_c) p.d_norm_c[u] += d_shown * normal;
      if (p.d_norm_c_bias) p.d_norm_c_bias[u] += d_shown;
      d_shown = of_normal(d_shown * to_sum(p.norm_c[this->column(j)]), normal);
    } else {
      Cell::backward_output(unit.s, c, c, unit.dh, w.w, unit.d, dc, d_shown, unit.dw);
    }
    leave_c(j, Cell::backward_update(unit.s, previous, dc + d_shown, w.w, unit.d, unit.dw) + past);
  }

  // The gradient of the entering c.
  SEQKERN_DEVICE void leave_c(int64_t j, S dc) const {
    const int64_t u = this->unit(j);
    if (this->from == Entry::initial && p.d_c_0) p.d_c_0[u] += dc;
    p.d_c[u] = this->from == Entry::previous ? dc : S(0);
  }

  template <bool normed>
  SEQKERN_DEVICE void step(int64_t j, S dh, const NormGradient<S>& of_normal) const {
    const int64_t u = this->unit(j);
    Unit unit = load(j, dh);
    if constexpr (Cell::kHasCell) {
      through_cell_state<normed>(j, unit, of_normal);
    } else {
      const auto w = this->parameters(p.weight_cell, j);
      const S previous = h_prev(j);
      unit.d_direct += Cell::backward(unit.s, previous, unit.dh, w.w, unit.d, unit.dw);
      if constexpr (kGated<Cell>) through_gate(j, previous, unit);
    }
    if (p.d_direct) p.d_direct[u] = unit.d_direct;
    for (int i = 0; i < Cell::kParameters; ++i)
      if (p.d_weight_cell)
        p.d_weight_cell[(this->row.sequence * Cell::kParameters + i) * p.heads * p.hidden_size + this->column(j)] += unit.dw[i];
    for (int i = 0; i < G; ++i) from_sum(unit.d[i], p.d_gates_x[this->unit_of_gate(math::gate_of_input_slot<Cell>(i), j)]);
    for (int g = 0; g < G; ++g) leave_hidden_part<normed>(g, j, unit.d[kSlots - G + g]);
  }

  SEQKERN_DEVICE void through_gate(int64_t j, S previous, Unit& unit) const {
    const S mask = p.recurrent_mask ? to_sum(p.recurrent_mask[this->unit(j)]) : S(1);
    S gate = 0, ignored[kSlots] = {};
    Cell::backward_gate(unit.s, S(0), S(1), ignored, gate);  // what a gradient of 1 comes to is the gate
    from_sum(gate * mask * previous, p.gated[this->unit(j)]);
    Cell::backward_gate(unit.s, previous, p.d_gated[this->row.by_head * p.hidden_size + j] * mask, unit.d, unit.d_direct);
  }

  // d: gradient of a gate's hidden part, W_hh h or its layer norm, plus b_hh.
  template <bool normed>
  SEQKERN_DEVICE void leave_hidden_part(int g, int64_t j, S d) const {
    const int64_t at = this->unit_of_gate(g, j);
    if (normed && p.norm_hh) {
      if (p.d_bias_hh) p.d_bias_hh[at] += d;
      if (p.d_norm_hh) p.d_norm_hh[at] += d * p.hh.normal[at];
      p.d_normed_h[at] = d * to_sum(p.norm_hh[this->column_of_gate(g, j)]);
    } else if (p.d_gates_h) {
      from_sum(d, p.d_gates_h[at]);
    }
  }

  // Of a whole row: through the layer norm of the gates' hidden part.
  SEQKERN_DEVICE void through_normed_gates() const {
    S ones = 0, normals = 0;
    const auto for_each = [&](const auto& body) {
      for_each_unit(p.hidden_size, [&](int64_t j) {
        for (int g = 0; g < G; ++g) body(this->unit_of_gate(g, j));
      });
    };
    for_each([&](int64_t at) {
      ones += p.d_normed_h[at];
      normals += p.d_normed_h[at] * p.hh.normal[at];
    });
    const auto gradient = NormGradient<S>::of_sums(p.hh.scale[this->row.index], ones, normals, G * p.hidden_size);
    for_each([&](int64_t at) { from_sum(gradient(p.d_normed_h[at], p.hh.normal[at]), p.d_gates_h[at]); });
  }

  // Where the step is not taken: zeros, and the gradient of the state stays as it is, until it is the initial state's.
  SEQKERN_DEVICE void skip(int64_t j) const {
    if constexpr (Cell::kHasCell) leave_c(j, p.d_c[this->unit(j)]);
    if constexpr (kGated<Cell>) from_sum(S(0), p.gated[this->unit(j)]);
    for (int g = 0; g < G; ++g) {
      from_sum(S(0), p.d_gates_x[this->unit_of_gate(g, j)]);
      if (p.d_gates_h) from_sum(S(0), p.d_gates_h[this->unit_of_gate(g, j)]);
    }
  }
};

template <class Cell, class T, bool normed>
SEQKERN_KERNEL(normed ? kThreadsOfRow : kThreads)
step_backward(RecurrentStepBackwardParams<T> p) {
  using S = Sum<T>;
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Backward<Cell, T> b(p, row);
    const Arrival<T> arrival(p, row);
    const bool arrived = kGated<Cell> || p.arrived;
    if (!b.taken) {
      for_each_unit(p.hidden_size, [&](int64_t j) {
        if (!arrived) arrival(j);
        b.skip(j);
      });
    } else if constexpr (normed) {
      NormGradient<S> of_normal{};
      if (!arrived) for_each_unit(p.hidden_size, [&](int64_t j) { p.d_cell_h[b.unit(j)] = arrival(j); });
      if constexpr (Cell::kHasCell)
        if (p.norm_c) of_normal = b.normed_c_gradient();
      for_each_unit(p.hidden_size, [&](int64_t j) { b.template step<true>(j, p.d_cell_h[b.unit(j)], of_normal); });
      if (p.norm_hh) b.through_normed_gates();
    } else {
      for_each_unit(p.hidden_size, [&](int64_t j) {
        b.template step<false>(j, arrived ? p.d_cell_h[b.unit(j)] : arrival(j), NormGradient<S>{});
      });
    }
  });
}

// The gradient of the candidate's pre-activation.
template <class Cell, class T>
SEQKERN_KERNEL(kThreads)
candidate_backward(RecurrentStepBackwardParams<T> p) {
  constexpr int candidate = Cell::kGates - 1;
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Backward<Cell, T> b(p, row);
    const Arrival<T> arrival(p, row);
    for_each_unit(p.hidden_size, [&](int64_t j) {
      const Sum<T> dh = arrival(j);
      p.d_cell_h[b.unit(j)] = dh;
      Sum<T> d = 0;
      if (b.taken) {
        auto unit = b.load(j, dh);
        Cell::backward(unit.s, b.h_prev(j), unit.dh, b.parameters(p.weight_cell, j).w, unit.d, unit.dw);
        d = unit.d[candidate];
      }
      from_sum(d, p.d_gates_x[b.unit_of_gate(candidate, j)]);
    });
  });
}

}  // namespace

template <class T>
cudaError_t launch_recurrent_arrive(const RecurrentArriveParams<T>& p, cudaStream_t stream) {
  return launch_rows(arrive<T>, p.batch * p.heads, p.state_size, false, p, stream);
}

template <class T>
cudaError_t launch_recurrent_backward(int cell, const RecurrentStepBackwardParams<T>& p, cudaStream_t stream) {
  return for_cell(cell, [&](auto tag) {
    using Cell = decltype(tag);
    return launch_step(step_backward<Cell, T, false>, step_backward<Cell, T, !kGated<Cell>>, p, stream);
  });
}

template <class T>
cudaError_t launch_recurrent_candidate(int cell, const RecurrentStepBackwardParams<T>& p, cudaStream_t stream) {
  return for_cell(cell, [&]([[maybe_unused]] auto tag) {
    using Cell = decltype(tag);
    if constexpr (kGated<Cell>)
      return launch_rows(candidate_backward<Cell, T>, p.batch * p.heads, p.hidden_size, false, p, stream);
    else
      return cudaErrorInvalidValue;
  });
}

#define SEQKERN_INSTANTIATE(T)                                                                              \
  template cudaError_t launch_recurrent_arrive(const RecurrentArriveParams<T>&, cudaStream_t);              \
  template cudaError_t launch_recurrent_backward(int, const RecurrentStepBackwardParams<T>&, cudaStream_t); \
  template cudaError_t launch_recurrent_candidate(int, const RecurrentStepBackwardParams<T>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(Float16)
#undef SEQKERN_INSTANTIATE

}  // namespace seqkern::cuda
