// What the recurrence's two passes on CUDA share: products, the choice of a kernel, and what the kernels are told of a step.
#include "ops/cuda_recurrent_step.h"

#include <ATen/Context.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/mm.h>

#include <stdexcept>

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
    p.row_size = h.size(-1) / layer.heads;
    p.h = output_pointer<T>(h);
    C10_CUDA_CHECK(cuda::launch_recurrent_enter(p, scope.stream()));
  });
}

namespace {

// Torch's setting for products of float32, by whichever of its two interfaces it was made. (Context::allowTF32CuBLAS throws where
// it was made by the newer one.)
bool tf32_allowed() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) == at::Float32Precision::TF32;
}

// Whether all steps can run in one launch: what persistent kernels are there for.
bool may_persist(const RecurrentLayer& layer) {
  return layer.options.dtype() != at::kDouble && !layer.weight_hr.defined() && !layer.norm_hh.defined() &&
         !layer.norm_c.defined();
}

}  // namespace

cuda::RecurrentPlan plan_recurrence(const RecurrentLayer& layer, int64_t steps, bool backward, bool complete,
                                    const std::function<bool(const cuda::RecurrentPlan&)>& fits) {
  if (!may_persist(layer)) return {cuda::RecurrentKernel::steps, 0, 1, 0};
  cuda::DeviceLimits limits{};
  C10_CUDA_CHECK(cuda::device_limits(limits));
  const bool exact = layer.options.dtype() == at::kFloat && !tf32_allowed();
  const cuda::RecurrentRequest request{layer.info.gates,
                                       layer.is_gated(),
                                       static_cast<int>(layer.options.dtype().itemsize()),
                                       steps,
                                       layer.batch,
                                       layer.heads,
                                       layer.hidden_size,
                                       backward,
                                       complete,
                                       exact};
  std::vector<cuda::RecurrentPlan> plans;
  try {
    plans = cuda::chosen_recurrent_plans(request, limits);
  } catch (const std::invalid_argument& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
  for (const cuda::RecurrentPlan& plan : plans)
    if (plan.kernel == cuda::RecurrentKernel::steps || fits(plan)) return plan;
  TORCH_CHECK(false, "SEQKERN_RECURRENT_KERNEL asks for ", cuda::to_string(plans.front()), ", which this device cannot run for ",
              layer.batch, " sequences, ", layer.heads, " heads of ", layer.hidden_size, " units in ", layer.options.dtype());
}

RecurrentTiling tiling_of(const RecurrentLayer& layer, const cuda::RecurrentPlan& plan, int64_t turns) {
  return {turns, plan.groups, cuda::sequences_of_group(plan, layer.batch), plan.chunk, !tf32_allowed()};
}

void mark_missing(const Tensor& tensor, const CudaScope& scope) {
  C10_CUDA_CHECK(cuda::fill_bytes(output_pointer<void>(tensor), 0xFF, tensor.nbytes(), scope.stream()));
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
