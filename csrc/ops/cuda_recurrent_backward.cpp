// The recurrence on CUDA, backward: step by step, with products of ATen's and the kernel of cuda/recurrent_backward.cu, or in one
// launch (cuda/recurrent_persistent_backward.cuh).
#include <ATen/ops/empty.h>

#include "ops/cuda_recurrent_step.h"

namespace seqkern::ops {
namespace {

template <class T>
class Backward {
 public:
  using S = math::Sum<T>;

  Backward(const RecurrentLayer& layer, const BackwardSteps& a, const RecurrentGradients& gradients, const CudaScope& scope)
      : layer_(layer), a_(a), gradients_(gradients), scope_(scope), hidden_gates_(layer.info.gates - layer.is_gated()) {
    weight_ = layer.first_rows(layer.weight_hh, hidden_gates_);
  }

  void run() {
    if constexpr (sizeof(T) < sizeof(double)) {
      const auto plan = plan_recurrence(layer_, a_.count, true, false, [&](const cuda::RecurrentPlan& plan) {
        bool fits = false;
        C10_CUDA_CHECK(cuda::launch_recurrent_persistent(layer_.cell, plan, sizes(plan), scope_.stream(), &fits));
        return fits;
      });
      if (plan.kernel != cuda::RecurrentKernel::steps) return run_persistent(plan);
    }
    prepare_steps();
    for (int64_t step = a_.first + a_.count - 1; step >= a_.first; --step) run_step(step);
  }

 private:
  // --- in one launch ---

  // What of its parameters decides whether a kernel fits.
  RecurrentPersistentBackwardParams<T> sizes(const cuda::RecurrentPlan& plan) const {
    RecurrentPersistentBackwardParams<T> p{};
    set_place(p, layer_, a_.first + a_.count - 1);
    p.tiling = tiling_of(layer_, plan, a_.count);
    p.exchange.row_size = padded<T>(layer_.hidden_size);
    return p;
  }

  void run_persistent(const cuda::RecurrentPlan& plan) {
    const int64_t N = layer_.batch, K = layer_.heads, H = layer_.hidden_size, G = layer_.info.gates,
                  backwards = layer_.reverse ? 1 : -1;
    const int64_t row = padded<T>(H), last = a_.first + a_.count - 1;
    const bool by_grid = plan.kernel == cuda::RecurrentKernel::grid;
    const Tensor& d_gates = a_.d_gates_h.defined() ? a_.d_gates_h : a_.d_gates_x;  // what the product takes
    const bool in_place = by_grid && row == H;
    if (layer_.is_gated()) d_cell_h_ = at::empty({N, K * H}, layer_.sums);

    RecurrentPersistentBackwardParams<T> p = sizes(plan);
    static_cast<RecurrentStepBackwardParams<T>&>(p) = params(last);
    p.d_direct = output_pointer<S>(gradients_.d_direct);
    p.h_prev = input_row<T>(a_.output, layer_.row(last) + backwards);
    p.c_prev = input_row<S>(a_.cells, layer_.row(last) + backwards);
    p.weight_hh = input_pointer<T>(layer_.weight_hh);

    Tensor later, gated;
    if (in_place) {
      T* const to = row_pointer<T>(d_gates, place_of(last));
      const int64_t entry = backwards * d_gates.stride(0);
      p.exchange = {nullptr, to, entry, H, hidden_gates_, G * H, K * G * H, false};
      p.gated_exchange = {nullptr, to + hidden_gates_ * H, entry, H, 1, G * H, K * G * H, false};
      (a_.d_gates_h.defined() ? p.d_gates_h : p.d_gates_x) = nullptr;
      mark_missing(d_gates, scope_);
    } else {
      const int64_t parts = hidden_gates_;
      if (by_grid) {
        later = at::empty({a_.count, N, K * parts * row}, layer_.options);
        mark_missing(later, scope_);
        if (layer_.is_gated()) {
          gated = at::empty({a_.count, N, K * row}, layer_.options);
          mark_missing(gated, scope_);
        }
      }
      p.exchange = {nullptr, output_pointer<T>(later), N * K * parts * row, row, parts, parts * row, K * parts * row, false};
      p.gated_exchange = {nullptr, output_pointer<T>(gated), N * K * row, row, 1, row, K * row, false};
    }
    C10_CUDA_CHECK(cuda::launch_recurrent_persistent(layer_.cell, plan, p, scope_.stream()));
    multiply(a_.first);
  }

  // --- step by step ---

  void prepare_steps() {
    const RecurrentLayer& layer = layer_;
    const int64_t N = layer.batch, KH = layer.heads * layer.hidden_size;
    if (layer.is_gated()) {
      d_gated_ = at::empty(layer.head_sizes(N, layer.hidden_size), layer.sums);
      candidate_weight_ = layer.last_rows(layer.weight_hh);
    }
    const bool norms = layer.norm_hh.defined() || layer.norm_c.defined();
    if (layer.is_gated() || norms || layer.weight_hr.defined()) d_cell_h_ = at::empty({N, KH}, layer.sums);
    if (layer.norm_hh.defined()) d_normed_h_ = at::empty({N, layer.heads * layer.gate_size}, layer.sums);
  }

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
    multiply(step);
  }

  // The gradient of what entered the step's product.
  void multiply(int64_t step) const {
    const Tensor& d_gates = a_.d_gates_h.defined() ? a_.d_gates_h : a_.d_gates_x;
    product(gradients_.d_product, columns(d_gates, place_of(step), 0, hidden_gates_), weight_);
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

void steps_backward(const RecurrentLayer& layer, const BackwardSteps& a, const RecurrentGradients& gradients,
                    const CudaScope& scope) {
  for_dtype(a.output.scalar_type(), [&](auto tag) { Backward<decltype(tag)>(layer, a, gradients, scope).run(); });
}

}  // namespace seqkern::ops
