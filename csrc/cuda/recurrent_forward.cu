// The pointwise part of one recurrent step on CUDA, forward, for every cell of math/cells.h.
#include "cuda/recurrent.h"

#include "cuda/recurrent.cuh"

namespace seqkern::cuda {
namespace {

template <class T>
SEQKERN_KERNEL(kThreads)
enter(RecurrentEnterParams<T> p) {
  const int64_t features = p.heads * p.state_size;
  for (int64_t i = block_index_y(); i < p.count * p.batch; i += block_count_y()) {
    const int64_t place = i / p.batch, n = i - place * p.batch;
    const int64_t step = p.step + (p.reverse ? p.count - 1 - place : place);
    const Entry from = entry(p, step, n);
    const T* const previous = from == Entry::previous ? p.output + (row_of(p, step - 1) * p.batch + n) * features : nullptr;
    const T* const initial = p.h_0 ? p.h_0 + n * features : nullptr;
    for_each_unit(features, [&](int64_t j) {
      auto h = entering(from, previous, initial, j);
      if (p.recurrent_mask) h *= to_sum(p.recurrent_mask[n * features + j]);
      from_sum(h, p.h[i * features + j]);
    });
  }
}

template <class Cell, class T>
struct Forward : CellRow<Cell, T> {
  using S = Sum<T>;
  using CellRow<Cell, T>::G, CellRow<Cell, T>::kSlots;
  static constexpr int kHiddenGates = kGated<Cell> ? G - 1 : G;  // of gates_h

  const RecurrentStepForwardParams<T>& p;
  Entry next;  // the state that the next step begins with
  Moments<S> hh{};

  SEQKERN_DEVICE Forward(const RecurrentStepForwardParams<T>& p, const Row& row)
      : CellRow<Cell, T>(p, row), p(p), next(p.step + 1 < p.steps ? entry(p, p.step + 1, row.sequence) : Entry::previous) {}

  SEQKERN_DEVICE S h_prev(int64_t j) const { return entering(this->from, p.h_prev, p.h_0, this->unit(j)); }
  SEQKERN_DEVICE S c_prev(int64_t j) const { return entering(this->from, p.c, p.c_0, this->unit(j)); }

  SEQKERN_DEVICE void take_moments_of_gates() {
    const int64_t size = G * p.hidden_size;
    hh = moments(p.gates_h + this->row.by_head * size, size);
    if (p.hh.scale && thread_index() == 0) p.hh.scale[this->row.index] = hh.scale;
  }

  // W_hh h of a gate, layer-normed if it is to be.
  template <bool normed>
  SEQKERN_DEVICE S hidden_part(int g, int64_t j) const {
    if (kGated<Cell> && g == G - 1) return p.candidate_h[this->row.by_head * p.hidden_size + j];
    S a = p.gates_h[(this->row.by_head * kHiddenGates + g) * p.hidden_size + j];
    if (normed && p.norm_hh) {
      a = (a - hh.mean) * hh.scale;
      if (p.hh.normal) p.hh.normal[this->unit_of_gate(g, j)] = a;
      a *= to_sum(p.norm_hh[this->column_of_gate(g, j)]);
    }
    return a;
  }

  // Pre-activations of the first `count` slots.
  template <int count, bool normed>
  SEQKERN_DEVICE void pre_activations(int64_t j, S (&s)[kSlots]) const {
    for (int i = 0; i < count; ++i) {
      s[i] = 0;
      if (i < G) {
        const int g = math::gate_of_input_slot<Cell>(i);
        s[i] += p.gates_x[this->unit_of_gate(g, j)] + value_or_zero(p.bias_ih, this->column_of_gate(g, j));
      }
      if (i >= kSlots - G) {
        const int g = math::gate_of_hidden_slot<Cell>(i);
        s[i] += hidden_part<normed>(g, j) + value_or_zero(p.bias_hh, this->column_of_gate(g, j));
      }
    }
  }

  SEQKERN_DEVICE void store_slots(int64_t j, const S (&s)[kSlots]) const {
    if (p.slots) CellRow<Cell, T>::store_slots(p.slots, p.hidden_slot, j, s);
  }

  // Finishes the step with the cell's h and c. previous: the state that it began with.
  SEQKERN_DEVICE void leave(int64_t j, math::CellState<S> state, [[maybe_unused]] const math::CellState<S>& previous) const {
    const int64_t u = this->unit(j);
    if constexpr (Cell::kHasCell) {
      if (p.zoneout_c) state.c = math::zone_out(to_sum(p.zoneout_c[u]), previous.c, state.c);
      p.c[u] = state.c;
      if (p.cells) p.cells[u] = state.c;
    }
    if (p.cell_h) p.cell_h[u] = state.h;
    if (p.zoneout_h) state.h = math::zone_out(to_sum(p.zoneout_h[u]), h_prev(j), state.h);
    leave_h(j, state.h);
  }

  SEQKERN_DEVICE void leave_h(int64_t j, S h) const {
    const int64_t u = this->unit(j);
    T rounded;
    from_sum(h, rounded);
    p.h[u] = rounded;
    if (!p.h_next) return;
    S entering_next = next == Entry::previous ? to_sum(rounded) : next == Entry::initial ? value_or_zero(p.h_0, u) : S(0);
    if (p.recurrent_mask) entering_next *= to_sum(p.recurrent_mask[u]);
    from_sum(entering_next, p.h_next[u]);
  }

  // Where the step is not taken: zeros, and the state stays as it is.
  SEQKERN_DEVICE void skip(int64_t j) const {
    const int64_t u = this->unit(j);
    if (Cell::kHasCell && p.cells) p.cells[u] = 0;
    if (p.cell_h) p.cell_h[u] = 0;
    leave_h(j, 0);
  }

  template <bool normed>
  SEQKERN_DEVICE void step(int64_t j) const {
    S s[kSlots];
    pre_activations<kSlots, normed>(j, s);
    const auto w = this->parameters(p.weight_cell, j);
    math::CellState<S> previous{};
    if constexpr (Cell::kHasCell)
      previous.c = c_prev(j);
    else
      previous.h = h_prev(j);
    if constexpr (kGated<Cell>) Cell::gate(s, w.w);
    math::CellState<S> state = previous;
    math::cell_forward<Cell>(s, state, w.w);
    store_slots(j, s);
    leave(j, state, previous);
  }

  // The step of a whole row, with c layer-normed before the output.
  SEQKERN_DEVICE void step_with_normed_c() const {
    const int64_t H = p.hidden_size;
    S* const normal = p.cc.normal + this->row.index * H;
    for_each_unit(H, [&](int64_t j) {
      S s[kSlots];
      pre_activations<kSlots, true>(j, s);
      normal[j] = Cell::update(s, c_prev(j), this->parameters(p.weight_cell, j).w);
      store_slots(j, s);
    });
    const Moments<S> of_c = moments(normal, H);
    if (p.cc.scale && thread_index() == 0) p.cc.scale[this->row.index] = of_c.scale;
    for_each_unit(H, [&](int64_t j) {
      S s[kSlots];
      this->load_slots(p.slots, p.hidden_slot, j, s);
      math::CellState<S> previous{}, state{};
      previous.c = c_prev(j);
      state.c = normal[j];
      normal[j] = (state.c - of_c.mean) * of_c.scale;
      const S shown = normal[j] * to_sum(p.norm_c[this->column(j)]) + value_or_zero(p.norm_c_bias, this->column(j));
      state.h = Cell::output(s, state.c, shown, this->parameters(p.weight_cell, j).w);
      store_slots(j, s);
      leave(j, state, previous);
    });
  }
};

template <class Cell, class T, bool normed>
SEQKERN_KERNEL(normed ? kThreadsOfRow : kThreads)
step_forward(RecurrentStepForwardParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    Forward<Cell, T> f(p, row);
    if (!f.taken) return for_each_unit(p.hidden_size, [&](int64_t j) { f.skip(j); });
    if (normed && p.norm_hh) f.take_moments_of_gates();
    if constexpr (normed && Cell::kHasCell)
      if (p.norm_c) return f.step_with_normed_c();
    for_each_unit(p.hidden_size, [&](int64_t j) { f.template step<normed>(j); });
  });
}

// The gate's product with the entering state.
template <class Cell, class T>
SEQKERN_KERNEL(kThreads)
gate_forward(RecurrentStepForwardParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Forward<Cell, T> f(p, row);
    for_each_unit(p.hidden_size, [&](int64_t j) {
      Sum<T> s[Cell::kSlots], gated = 0;
      if (f.taken) {
        f.template pre_activations<Cell::kGates - 1, false>(j, s);
        gated = Cell::gate(s, f.parameters(p.weight_cell, j).w) * f.h_prev(j);
        if (p.recurrent_mask) gated *= to_sum(p.recurrent_mask[f.unit(j)]);
      }
      from_sum(gated, p.gated[f.unit(j)]);
    });
  });
}

}  // namespace

template <class T>
cudaError_t launch_recurrent_enter(const RecurrentEnterParams<T>& p, cudaStream_t stream) {
  return launch_rows(enter<T>, p.count * p.batch, p.heads * p.state_size, false, p, stream);
}

template <class T>
cudaError_t launch_recurrent_forward(int cell, const RecurrentStepForwardParams<T>& p, cudaStream_t stream) {
  return for_cell(cell, [&](auto tag) {
    using Cell = decltype(tag);
    return launch_step(step_forward<Cell, T, false>, step_forward<Cell, T, !kGated<Cell>>, p, stream);
  });
}

template <class T>
cudaError_t launch_recurrent_gate(int cell, const RecurrentStepForwardParams<T>& p, cudaStream_t stream) {
  return for_cell(cell, [&]([[maybe_unused]] auto tag) {
    using Cell = decltype(tag);
    if constexpr (kGated<Cell>)
      return launch_rows(gate_forward<Cell, T>, p.batch * p.heads, p.hidden_size, false, p, stream);
    else
      return cudaErrorInvalidValue;
  });
}

#define SEQKERN_INSTANTIATE(T)                                                                            \
  template cudaError_t launch_recurrent_enter(const RecurrentEnterParams<T>&, cudaStream_t);              \
  template cudaError_t launch_recurrent_forward(int, const RecurrentStepForwardParams<T>&, cudaStream_t); \
  template cudaError_t launch_recurrent_gate(int, const RecurrentStepForwardParams<T>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(Float16)
#undef SEQKERN_INSTANTIATE

}  // namespace seqkern::cuda
