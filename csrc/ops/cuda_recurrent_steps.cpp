// The recurrence on CUDA, step by step: its products are ATen's, its kernels in cuda/recurrent.cu.
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "cuda/recurrent.h"
#include "ops/cuda_recurrent.h"

namespace seqkern::ops {

void product(const Tensor& out, const Tensor& a, const Tensor& b) {
  Tensor to = out;
  const bool same = out.scalar_type() == a.scalar_type(), matrices = out.dim() == 2;
  if (matrices && same)
    at::mm_out(to, a, b);
  else if (matrices)
    at::mm_out(to, a, b, out.scalar_type());
  else if (same)
    at::bmm_out(to, a, b);
  else
    at::bmm_out(to, a, b, out.scalar_type());
}

namespace {

// The elements of one row of a contiguous tensor; null for an undefined one.
template <class T>
T* row_pointer(const Tensor& tensor, int64_t row) {
  return tensor.defined() ? output_pointer<T>(tensor) + row * tensor.stride(0) : nullptr;
}
template <class T>
const T* input_row(const Tensor& tensor, int64_t row) {
  return tensor.defined() ? input_pointer<T>(tensor) + row * tensor.stride(0) : nullptr;
}

void set_place(RecurrentStepParams& p, const RecurrentLayer& layer, int64_t step) {
  p.steps = layer.steps;
  p.step = step;
  p.batch = layer.batch;
  p.heads = layer.heads;
  p.hidden_size = layer.hidden_size;
  p.reverse = layer.reverse;
  p.reset_to_initial = layer.reset_to_initial;
  p.lengths = input_pointer<int64_t>(layer.lengths);
  p.resets = input_pointer<bool>(layer.resets);
}

}  // namespace

void enter_steps(const RecurrentLayer& layer, int64_t first, int64_t count, const Tensor& output, const Tensor& h,
                 const CudaScope& scope) {
  for_dtype(h.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    RecurrentEnterParams<T> p{};
    set_place(p, layer, first);
    p.count = count;
    p.state_size = layer.state_size;
    p.h_0 = input_pointer<T>(layer.h_0);
    p.output = input_pointer<T>(output);
    p.recurrent_mask = input_pointer<T>(layer.recurrent_mask);
    p.h = output_pointer<T>(h);
    C10_CUDA_CHECK(cuda::launch_recurrent_enter(p, scope.stream()));
  });
}

namespace {

template <class T>
class Forward {
 public:
  using S = math::Sum<T>;

  Forward(const RecurrentLayer& layer, const ForwardSteps& a, const CudaScope& scope) : layer_(layer), a_(a), scope_(scope) {
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

  void run() const {
    enter_steps(layer_, a_.first, 1, a_.output, entered_, scope_);
    for (int64_t step = a_.first; step < a_.first + a_.count; ++step) run_step(step);
  }

 private:
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
    p.gates_h = input_pointer<S>(gates_h_);
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

template <class T>
class Backward {
 public:
  using S = math::Sum<T>;

  Backward(const RecurrentLayer& layer, const BackwardSteps& a, const RecurrentGradients& gradients, const CudaScope& scope)
      : layer_(layer), a_(a), gradients_(gradients), scope_(scope), hidden_gates_(layer.info.gates - layer.is_gated()) {
    const int64_t N = layer.batch, KH = layer.heads * layer.hidden_size;
    weight_ = layer.first_rows(layer.weight_hh, hidden_gates_);
    if (layer.is_gated()) {
      d_gated_ = at::empty(layer.head_sizes(N, layer.hidden_size), layer.sums);
      candidate_weight_ = layer.last_rows(layer.weight_hh);
    }
    const bool norms = layer.norm_hh.defined() || layer.norm_c.defined();
    if (layer.is_gated() || norms || layer.weight_hr.defined()) d_cell_h_ = at::empty({N, KH}, layer.sums);
    if (layer.norm_hh.defined()) d_normed_h_ = at::empty({N, layer.heads * layer.gate_size}, layer.sums);
  }

  void run() const {
    for (int64_t step = a_.first + a_.count - 1; step >= a_.first; --step) run_step(step);
  }

 private:
  void run_step(int64_t step) const {
    const int64_t place = place_of(step);
    const bool projected = layer_.weight_hr.defined();
    if (projected) {
      RecurrentArriveParams<T> p{};
      set_arrival(p, step);
      p.d_h = row_pointer<T>(a_.d_h, place);
      C10_CUDA_CHECK(cuda::launch_recurrent_arrive(p, scope_.stream()));
      product(d_cell_h_, a_.d_h.select(0, place), layer_.weight_hr);
    }
    const auto p = params(step);
    if (layer_.is_gated()) {
      C10_CUDA_CHECK(cuda::launch_recurrent_candidate(layer_.cell, p, scope_.stream()));
      product(d_gated_, columns(a_.d_gates_x, place, layer_.info.gates - 1, 1), candidate_weight_);
    }
    C10_CUDA_CHECK(cuda::launch_recurrent_backward(layer_.cell, p, scope_.stream()));
    product(gradients_.d_product, columns(a_.d_gates_h.defined() ? a_.d_gates_h : a_.d_gates_x, place, 0, hidden_gates_),
            weight_);
  }

  int64_t place_of(int64_t step) const { return layer_.row(step) - layer_.row(a_.first, a_.count); }

  // [K, N, gates * H], of a row of gradients of pre-activations.
  Tensor columns(const Tensor& d_gates, int64_t place, int64_t first_gate, int64_t gates) const {
    const int64_t H = layer_.hidden_size;
    return layer_.by_head(d_gates.select(0, place)).narrow(-1, first_gate * H, gates * H);
  }

  void set_arrival(RecurrentArriveParams<T>& p, int64_t step) const {
    set_place(p, layer_, step);
    // Where all of a gradient passes the product, only the final state's comes directly.
    const bool direct =
        step + 1 == layer_.steps || !layer_.info.has_cell || layer_.lengths.defined() || layer_.zoneout_h.defined();
    p.state_size = layer_.state_size;
    p.d_output = input_row<T>(a_.d_output, layer_.row(step));
    p.d_product = step + 1 < layer_.steps ? input_pointer<S>(gradients_.d_product) : nullptr;
    p.recurrent_mask = input_pointer<T>(layer_.recurrent_mask);
    p.d_direct = direct ? output_pointer<S>(gradients_.d_direct) : nullptr;
    p.d_h_0 = output_pointer<S>(gradients_.d_h_0);
  }

  RecurrentStepBackwardParams<T> params(int64_t step) const {
    const int64_t row = layer_.row(step), place = place_of(step);
    const RecurrentKept& kept = a_.kept;
    RecurrentStepBackwardParams<T> p{};
    p.arrived = layer_.weight_hr.defined();
    if (p.arrived) {
      set_place(p, layer_, step);
    } else {
      set_arrival(p, step);
      p.h_0 = input_pointer<T>(layer_.h_0);
      p.h_prev = step == 0 ? nullptr : input_row<T>(a_.output, layer_.row(step - 1));
    }
    p.slots = input_row<S>(kept.slots, place);
    p.hidden_slot = input_row<S>(kept.hidden_slot, place);
    p.weight_cell = input_pointer<T>(layer_.weight_cell);
    p.norm_hh = input_pointer<T>(layer_.norm_hh);
    p.norm_c = input_pointer<T>(layer_.norm_c);
    p.norm_c_bias = input_pointer<T>(layer_.norm_c_bias);
    p.c_0 = input_pointer<T>(layer_.c_0);
    p.c_prev = step == 0 ? nullptr : input_row<S>(a_.cells, layer_.row(step - 1));
    p.zoneout_h = input_row<T>(layer_.zoneout_h, row);
    p.zoneout_c = input_row<T>(layer_.zoneout_c, row);
    p.d_cells = input_row<S>(a_.d_cells, row);
    p.d_gated = input_pointer<S>(d_gated_);
    p.hh = {input_row<S>(kept.normal_hh, place), input_row<S>(kept.scale_hh, place)};
    p.cc = {input_row<S>(kept.normal_c, place), input_row<S>(kept.scale_c, place)};
    p.d_cell_h = output_pointer<S>(d_cell_h_);
    p.d_c = output_pointer<S>(gradients_.d_c);
    p.d_c_0 = output_pointer<S>(gradients_.d_c_0);
    p.d_gates_x = row_pointer<T>(a_.d_gates_x, place);
    p.d_gates_h = row_pointer<T>(a_.d_gates_h, place);
    p.d_normed_h = output_pointer<S>(d_normed_h_);
    p.gated = row_pointer<T>(a_.gated, place);
    p.d_weight_cell = output_pointer<S>(gradients_.d_weight_cell);
    p.d_norm_hh = output_pointer<S>(gradients_.d_norm_hh);
    p.d_bias_hh = output_pointer<S>(gradients_.d_bias_hh);
    p.d_norm_c = output_pointer<S>(gradients_.d_norm_c);
    p.d_norm_c_bias = output_pointer<S>(gradients_.d_norm_c_bias);
    return p;
  }

  const RecurrentLayer& layer_;
  const BackwardSteps& a_;
  const RecurrentGradients& gradients_;
  const CudaScope& scope_;
  const int64_t hidden_gates_;        // in the first product
  Tensor weight_, candidate_weight_;  // [K, rows, R]
  Tensor d_gated_;                    // [K, N, H]
  Tensor d_cell_h_, d_normed_h_;      // [N, K * H], [N, K * G * H]
};

}  // namespace

void steps_forward(const RecurrentLayer& layer, const ForwardSteps& a, const CudaScope& scope) {
  for_dtype(a.output.scalar_type(), [&](auto tag) { Forward<decltype(tag)>(layer, a, scope).run(); });
}

void steps_backward(const RecurrentLayer& layer, const BackwardSteps& a, const RecurrentGradients& gradients,
                    const CudaScope& scope) {
  for_dtype(a.output.scalar_type(), [&](auto tag) { Backward<decltype(tag)>(layer, a, gradients, scope).run(); });
}

void leave_to_initial_state(const RecurrentLayer& layer, const RecurrentGradients& gradients, const CudaScope& scope) {
  for_dtype(layer.options.dtype().toScalarType(), [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    RecurrentArriveParams<T> p{};
    set_place(p, layer, -1);
    p.state_size = layer.state_size;
    p.d_product = input_pointer<S>(gradients.d_product);
    p.recurrent_mask = input_pointer<T>(layer.recurrent_mask);
    p.d_direct = output_pointer<S>(gradients.d_direct);
    p.d_h_0 = output_pointer<S>(gradients.d_h_0);
    C10_CUDA_CHECK(cuda::launch_recurrent_arrive(p, scope.stream()));
  });
}

}  // namespace seqkern::ops
