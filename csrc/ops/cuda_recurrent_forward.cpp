// The recurrence on CUDA, forward: step by step, with products of ATen's and the kernel of cuda/recurrent_forward.cu, or in one
// launch (cuda/recurrent_persistent_forward.cuh).
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "ops/cuda_recurrent_step.h"

namespace seqkern::ops {
namespace {

template <class T>
class Forward {
 public:
  using S = math::Sum<T>;

  Forward(const RecurrentLayer& layer, const ForwardSteps& a, const CudaScope& scope) : layer_(layer), a_(a), scope_(scope) {}

  void run() {
    if constexpr (sizeof(T) < sizeof(double)) {
      const auto plan = plan_recurrence(layer_, a_.count, false, a_.again, [&](const cuda::RecurrentPlan& plan) {
        bool fits = false;
        C10_CUDA_CHECK(cuda::launch_recurrent_persistent(layer_.cell, plan, sizes(plan), scope_.stream(), &fits));
        return fits;
      });
      if (plan.kernel != cuda::RecurrentKernel::steps) return run_persistent(plan);
    }
    prepare_steps();
    enter_steps(layer_, a_.first, 1, a_.output, entered_, scope_);
    for (int64_t step = a_.first; step < a_.first + a_.count; ++step) run_step(step);
  }

 private:
  // --- in one launch ---

  // What of its parameters decides whether a kernel fits.
  RecurrentPersistentForwardParams<T> sizes(const cuda::RecurrentPlan& plan) const {
    RecurrentPersistentForwardParams<T> p{};
    set_place(p, layer_, a_.first);
    p.tiling = tiling_of(layer_, plan, a_.count);
    p.exchange.row_size = padded<T>(layer_.hidden_size);
    return p;
  }

  void run_persistent(const cuda::RecurrentPlan& plan) {
    const int64_t N = layer_.batch, K = layer_.heads, H = layer_.hidden_size, forwards = layer_.reverse ? -1 : 1;
    const int64_t row = padded<T>(H);
    const bool by_grid = plan.kernel == cuda::RecurrentKernel::grid;
    // The output is what the blocks hand each other, where it is what the next step takes.
    const bool in_output = by_grid && !layer_.is_uneven() && row == H;
    if (layer_.is_gated()) gates_h_ = at::empty(layer_.head_sizes(N, (layer_.info.gates - 1) * H), layer_.sums);

    RecurrentPersistentForwardParams<T> p = sizes(plan);
    static_cast<RecurrentStepForwardParams<T>&>(p) = params(a_.first);
    p.h_prev = output_pointer<T>(a_.output) + (layer_.row(a_.first) - forwards) * a_.output.stride(0);
    if (in_output || a_.again) p.h = nullptr;
    p.h_next = nullptr;
    p.gated = nullptr;
    p.weight_hh = input_pointer<T>(layer_.weight_hh);

    const auto rows_of = [&](int64_t entries) {
      return row == H ? at::empty({entries, N, K * row}, layer_.options) : at::zeros({entries, N, K * row}, layer_.options);
    };
    RecurrentExchange<T>& x = p.exchange;
    x = {nullptr, nullptr, forwards * N * K * row, row, 1, row, K * row, a_.again};
    Tensor first, later, gated;
    if (a_.again && !in_output) {
      first = rows_of(a_.count);
      enter_steps(layer_, a_.first, a_.count, a_.output, first, scope_);
      const int64_t place = layer_.row(a_.first) - layer_.row(a_.first, a_.count);
      x.first = row_pointer<T>(first, place);
      x.later = row_pointer<T>(first, place + forwards);
    } else {
      first = rows_of(1);
      enter_steps(layer_, a_.first, 1, a_.output, first, scope_);
      x.first = output_pointer<T>(first);
      if (in_output) {
        x.later = row_pointer<T>(a_.output, layer_.row(a_.first));
        if (!a_.again) mark_missing(a_.output.narrow(0, layer_.row(a_.first, a_.count), a_.count), scope_);
      } else if (by_grid) {
        later = at::empty({a_.count, N, K * row}, layer_.options);
        mark_missing(later, scope_);
        x.later = output_pointer<T>(later);
        x.entry_size = later.stride(0);
      }
    }
    if (layer_.is_gated()) {
      p.gated_exchange = {nullptr, nullptr, N * K * row, row, 1, row, K * row, false};
      if (by_grid) {
        gated = at::empty({a_.count, N, K * row}, layer_.options);
        mark_missing(gated, scope_);
        p.gated_exchange.later = output_pointer<T>(gated);
      }
    }
    C10_CUDA_CHECK(cuda::launch_recurrent_persistent(layer_.cell, plan, p, scope_.stream()));
  }

  // --- step by step ---

  void prepare_steps() {
    const RecurrentLayer& layer = layer_;
    const ForwardSteps& a = a_;
    const int64_t N = layer.batch, H = layer.hidden_size, R = layer.state_size, KH = layer.heads * H;
    const int64_t hidden_gates = layer.info.gates - layer.is_gated();
    gates_h_ = at::empty(layer.head_sizes(N, hidden_gates * H), layer.sums);
    weight_ = layer.first_rows(layer.weight_hh, hidden_gates).transpose(-2, -1);
    entered_ = at::empty({N, layer.heads * R}, layer.options);
    if (layer.is_gated()) {
      gated_ = at::empty({N, KH}, layer.options);
      candidate_h_ = at::empty(layer.head_sizes(N, H), layer.sums);
      candidate_weight_ = layer.last_rows(layer.weight_hh).transpose(-2, -1);
    }
    if (layer.weight_hr.defined() || a.again) h_ = at::empty({N, KH}, layer.options);
    if (layer.norm_c.defined() && !a.kept.slots.defined()) {
      slots_ = at::empty({1, N, layer.heads * layer.gate_size}, layer.sums);
      normal_c_ = at::empty({1, N, KH}, layer.sums);
    }
  }

  void run_step(int64_t step) const {
    const bool entered = step == a_.first || layer_.is_uneven();
    const Tensor h_prev = entered ? entered_ : a_.output.select(0, layer_.row(step - 1));
    product(gates_h_, layer_.by_head(h_prev), weight_);
    const auto p = params(step);
    if (layer_.is_gated()) {
      C10_CUDA_CHECK(cuda::launch_recurrent_gate(layer_.cell, p, scope_.stream()));
      product(candidate_h_, layer_.by_head(gated_), candidate_weight_);
    }
    C10_CUDA_CHECK(cuda::launch_recurrent_forward(layer_.cell, p, scope_.stream()));
    if (!layer_.weight_hr.defined()) return;
    if (!a_.again) product(a_.output.select(0, layer_.row(step)), h_, layer_.weight_hr.t());
    if (layer_.is_uneven() && step + 1 < layer_.steps) enter_steps(layer_, step + 1, 1, a_.output, entered_, scope_);
  }

  RecurrentStepForwardParams<T> params(int64_t step) const {
    const int64_t row = layer_.row(step), place = row - layer_.row(a_.first, a_.count);  // in arrays of all steps, and of these
    const bool projected = layer_.weight_hr.defined();
    const RecurrentKept& kept = a_.kept;
    RecurrentStepForwardParams<T> p{};
    set_place(p, layer_, step);
    p.gates_x = input_row<S>(a_.gates_x, place);
    p.gates_h = output_pointer<S>(gates_h_);
    p.candidate_h = input_pointer<S>(candidate_h_);
    p.bias_ih = input_pointer<T>(layer_.bias_ih);
    p.bias_hh = input_pointer<T>(layer_.bias_hh);
    p.weight_cell = input_pointer<T>(layer_.weight_cell);
    p.norm_hh = input_pointer<T>(layer_.norm_hh);
    p.norm_c = input_pointer<T>(layer_.norm_c);
    p.norm_c_bias = input_pointer<T>(layer_.norm_c_bias);
    p.h_0 = projected ? nullptr : input_pointer<T>(layer_.h_0);
    p.c_0 = input_pointer<T>(layer_.c_0);
    p.h_prev = step == 0 || projected ? nullptr : input_row<T>(a_.output, layer_.row(step - 1));
    p.recurrent_mask = projected ? nullptr : input_pointer<T>(layer_.recurrent_mask);
    p.zoneout_h = input_row<T>(layer_.zoneout_h, row);
    p.zoneout_c = input_row<T>(layer_.zoneout_c, row);
    p.c = output_pointer<S>(a_.c);
    p.cells = row_pointer<S>(a_.cells, place);
    p.h = h_.defined() ? output_pointer<T>(h_) : row_pointer<T>(a_.output, row);
    p.h_next = layer_.is_uneven() && !projected && step + 1 < layer_.steps ? output_pointer<T>(entered_) : nullptr;
    p.gated = output_pointer<T>(gated_);
    p.slots = kept.slots.defined() ? row_pointer<S>(kept.slots, place) : output_pointer<S>(slots_);
    p.hidden_slot = row_pointer<S>(kept.hidden_slot, place);
    p.cell_h = row_pointer<S>(kept.cell_h, place);
    p.hh = {row_pointer<S>(kept.normal_hh, place), row_pointer<S>(kept.scale_hh, place)};
    p.cc = {kept.normal_c.defined() ? row_pointer<S>(kept.normal_c, place) : output_pointer<S>(normal_c_),
            row_pointer<S>(kept.scale_c, place)};
    return p;
  }

  const RecurrentLayer& layer_;
  const ForwardSteps& a_;
  const CudaScope& scope_;
  Tensor weight_, candidate_weight_;  // [K, R, rows]
  Tensor gates_h_, candidate_h_;      // [K, N, G * H], [K, N, H]
  Tensor entered_, gated_;            // [N, K * R], [N, K * H]: inputs of the products
  Tensor h_;                          // [N, K * H], where it is no row of output
  Tensor slots_, normal_c_;           // of one step, where they are not kept but needed
};

}  // namespace

void steps_forward(const RecurrentLayer& layer, const ForwardSteps& a, const CudaScope& scope) {
  for_dtype(a.output.scalar_type(), [&](auto tag) { Forward<decltype(tag)>(layer, a, scope).run(); });
}

}  // namespace seqkern::ops
