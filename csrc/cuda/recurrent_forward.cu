// One recurrent step, forward, once its product with W_hh is there.
#include "cuda/recurrent_forward.cuh"

#include "cuda/recurrent.h"

namespace seqkern::cuda {
namespace {

template <class T>
SEQKERN_KERNEL(kThreads, 1)
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
      const int64_t head = p.heads == 1 ? 0 : j / p.state_size;
      from_sum(h, p.h[i * p.heads * p.row_size + head * (p.row_size - p.state_size) + j]);
    });
  }
}

// The step of a whole row, with c layer-normed before the output.
template <class Cell, class T>
SEQKERN_DEVICE void step_with_normed_c(const Forward<Cell, T>& f) {
  using S = Sum<T>;
  const auto& p = f.p;
  const int64_t H = p.hidden_size;
  S* const normal = p.cc.normal + f.row_at_step * H;
  for_each_unit(H, [&](int64_t j) {
    auto unit = f.load(j);
    f.template add_gates_h<true>(j, unit);
    normal[j] = Cell::update(unit.s, unit.previous.c, unit.w.w);
    f.store_slots(j, unit.s);
  });
  const Moments<S> of_c = moments(normal, H);
  if (p.cc.scale && thread_index() == 0) p.cc.scale[f.row_at_step] = of_c.scale;
  for_each_unit(H, [&](int64_t j) {
    S s[Cell::kSlots];
    f.load_slots(p.slots, p.hidden_slot, j, s);
    math::CellState<S> previous{}, state{};
    previous.c = f.c_prev(j);
    state.c = normal[j];
    normal[j] = (state.c - of_c.mean) * of_c.scale;
    const S shown = normal[j] * to_sum(p.norm_c[f.column(j)]) + value_or_zero(p.norm_c_bias, f.column(j));
    state.h = Cell::output(s, state.c, shown, f.parameters(p.weight_cell, j).w);
    f.store_slots(j, s);
    const S handed_on = f.leave(j, state, previous);
    if (p.h_next) from_sum(handed_on, p.h_next[f.unit(j)]);
  });
}

template <class Cell, class T, bool normed>
SEQKERN_KERNEL(normed ? kThreadsOfRow : kThreads, 1)
step_forward(RecurrentStepForwardParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    Forward<Cell, T> f(p, row, p.step, 0);
    if (f.taken && normed && p.norm_hh) f.take_moments_of_gates();
    if constexpr (normed && Cell::kHasCell)
      if (f.taken && p.norm_c) return step_with_normed_c(f);
    for_each_unit(p.hidden_size, [&](int64_t j) {
      Sum<T> handed_on;
      if (f.taken) {
        auto unit = f.load(j);
        f.template add_gates_h<normed>(j, unit);
        if constexpr (kGated<Cell>) f.add_hidden(unit, Cell::kGates - 1, p.candidate_h[row.by_head * p.hidden_size + j]);
        handed_on = f.finish(j, unit);
      } else {
        handed_on = f.skip(j);
      }
      if (p.h_next) from_sum(handed_on, p.h_next[f.unit(j)]);
    });
  });
}

// The gate's product with the entering state.
template <class Cell, class T>
SEQKERN_KERNEL(kThreads, 1)
gate_forward(RecurrentStepForwardParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Forward<Cell, T> f(p, row, p.step, 0);
    for_each_unit(p.hidden_size, [&](int64_t j) {
      Sum<T> gated = 0;
      if (f.taken) {
        auto unit = f.load(j);
        f.template add_gates_h<false>(j, unit);
        gated = f.gated(j, unit);
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
