// One recurrent step, backward, once the gradient of the next step's product is there.
#include "cuda/recurrent_backward.cuh"

#include "cuda/recurrent.h"

namespace seqkern::cuda {
namespace {

template <class T>
SEQKERN_KERNEL(kThreads, 1)
arrive(RecurrentArriveParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Arrival<T> arrival(p, row, p.step, 0);
    for_each_unit(p.state_size, [&](int64_t j) {
      const Sum<T> d = arrival(j);
      if (p.d_h) from_sum(d, p.d_h[row.index * p.state_size + j]);
    });
  });
}

template <class Cell, class T, bool normed>
SEQKERN_KERNEL(normed ? kThreadsOfRow : kThreads, 1)
step_backward(RecurrentStepBackwardParams<T> p) {
  using S = Sum<T>;
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Backward<Cell, T> b(p, row, p.step, 0);
    const Arrival<T> arrival(p, row, p.step, 0);
    const bool arrived = kGated<Cell> || p.arrived;
    NormGradient<S> of_normal{};
    if constexpr (normed) {
      if (b.taken && !arrived) for_each_unit(p.hidden_size, [&](int64_t j) { p.d_cell_h[b.unit(j)] = arrival(j); });
      if constexpr (Cell::kHasCell)
        if (b.taken && p.norm_c) of_normal = b.normed_c_gradient();
    }
    for_each_unit(p.hidden_size, [&](int64_t j) {
      if (!b.taken) {
        if (!arrived) arrival(j);
        return b.skip(j);
      }
      auto unit = b.load(j, normed || arrived ? p.d_cell_h[b.unit(j)] : arrival(j));
      b.template differentiate<normed>(j, unit, kGated<Cell> ? p.d_gated[row.by_head * p.hidden_size + j] : S(0), of_normal);
      b.template leave_hidden_parts<normed>(j, unit);
    });
    if constexpr (normed)
      if (b.taken && p.norm_hh) b.through_normed_gates();
  });
}

// The gradient of the candidate's pre-activation.
template <class Cell, class T>
SEQKERN_KERNEL(kThreads, 1)
candidate_backward(RecurrentStepBackwardParams<T> p) {
  for_each_row(p, p.batch * p.heads, [&](const Row& row) {
    const Backward<Cell, T> b(p, row, p.step, 0);
    const Arrival<T> arrival(p, row, p.step, 0);
    for_each_unit(p.hidden_size, [&](int64_t j) {
      const Sum<T> dh = arrival(j);
      p.d_cell_h[b.unit(j)] = dh;
      Sum<T> d = 0;
      if (b.taken) {
        auto unit = b.load(j, dh);
        d = b.candidate(unit);
      }
      from_sum(d, p.d_gates_x[b.gate_at_step(Cell::kGates - 1, j)]);
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
