// The recurrent ops on CUDA. Schemas and checks are in ops/recurrent.cpp, the recurrence in ops/cuda_recurrent_steps.cpp.
//
// Products are ATen's, so that torch's settings (TF32, reduced-precision sums, determinism) hold for them. For half types they
// store their float32 sums as they are: pre-activations and the gradients carried from step to step are never rounded to half;
// what a product reads (h, and the gradient of the pre-activations) is.
//
// Nothing here waits for the device, and all memory is the caching allocator's: the ops can be captured in CUDA graphs. Lengths
// are therefore not looked at here; whatever they are, no kernel leaves its tensors.
#include "ops/cuda_recurrent.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

namespace seqkern::ops {

namespace {

constexpr int64_t kProjectionBytes = int64_t{1} << 26;  // of projected gates, where they need not be kept

Tensor contiguous(const MaybeTensor& tensor) { return tensor ? tensor->contiguous() : Tensor(); }

// [T, N, F] as the matrix of its rows, [T * N, F].
Tensor rows(const Tensor& tensor) { return tensor.reshape({tensor.size(0) * tensor.size(1), tensor.size(2)}); }

// A new tensor of the elements of `tensor`, or of zeros where it is undefined.
Tensor copy_or_zeros(const Tensor& tensor, at::IntArrayRef sizes, const at::TensorOptions& options) {
  return tensor.defined() ? at::empty(sizes, options).copy_(tensor) : at::zeros(sizes, options);
}

}  // namespace

RecurrentLayer::RecurrentLayer(const RecurrentShape& shape, const RecurrentArguments& a)
    : RecurrentShape(shape),
      input(a.input.contiguous()),
      h_0(contiguous(a.h_0)),
      c_0(contiguous(a.c_0)),
      weight_ih(contiguous(a.weight_ih)),
      weight_hh(a.weight_hh.contiguous()),
      bias_ih(contiguous(a.bias_ih)),
      bias_hh(contiguous(a.bias_hh)),
      weight_cell(contiguous(a.weight_cell)),
      weight_hr(contiguous(a.weight_hr)),
      norm_hh(contiguous(a.norm_hh)),
      norm_c(contiguous(a.norm_c)),
      norm_c_bias(contiguous(a.norm_c_bias)),
      lengths(contiguous(a.lengths)),
      resets(contiguous(a.resets)),
      recurrent_mask(contiguous(a.recurrent_mask)),
      zoneout_h(contiguous(a.zoneout_h)),
      zoneout_c(contiguous(a.zoneout_c)),
      reset_to_initial(a.reset_to_initial),
      reverse(a.reverse),
      options(input.options()),
      sums(options.dtype(accumulate_type(input.scalar_type()))) {
  if (heads == 1) weight_hh = weight_hh.view({gate_size, state_size});
}

RecurrentKept::RecurrentKept(const RecurrentLayer& layer, const Tensor& memory, int64_t steps) {
  const Tensor all = memory.view(-1);
  int64_t begin = 0;
  const auto take = [&](int64_t size) {
    const int64_t count = steps * layer.batch * size;
    begin += count;
    return all.narrow(0, begin - count, count).view({steps, layer.batch, size});
  };
  const int64_t units = layer.heads * layer.hidden_size, gates = layer.heads * layer.gate_size;
  slots = take(gates);
  if (layer.info.slots > layer.info.gates) hidden_slot = take(units);
  if (layer.weight_hr.defined()) cell_h = take(units);
  if (layer.norm_hh.defined()) {
    normal_hh = take(gates);
    scale_hh = take(layer.heads);
  }
  if (layer.norm_c.defined()) {
    normal_c = take(units);
    scale_c = take(layer.heads);
  }
}

namespace {

// Whether the input is projected, and of the dtype of sums: there is nothing to do to it.
bool is_projected(const RecurrentLayer& layer) {
  return !layer.weight_ih.defined() && layer.options.dtype() == layer.sums.dtype();
}

// The input's part of the gates of some steps; in the first rows of `place` [steps, N, K * G * H], if it needs one.
Tensor projected_input(const RecurrentLayer& layer, int64_t first, int64_t count, const Tensor& place) {
  const Tensor input = layer.input.narrow(0, layer.row(first, count), count);
  if (is_projected(layer)) return input;
  const Tensor to = place.narrow(0, 0, count);
  if (layer.weight_ih.defined())
    product(rows(to), rows(input), layer.weight_ih.t());
  else
    to.copy_(input);
  return to;
}

// Whether there is anything to compute.
bool is_empty(const RecurrentLayer& layer) { return layer.steps * layer.batch * layer.heads * layer.hidden_size == 0; }

// The state after the last step taken, by the states after all steps.
Tensor last_state(const RecurrentLayer& layer, const Tensor& states, const Tensor& initial) {
  const Tensor before = copy_or_zeros(initial, {states.size(1), states.size(2)}, states.options());
  if (layer.steps == 0) return before;
  if (!layer.lengths.defined()) return states.select(0, layer.row(layer.steps - 1)).clone();
  const Tensor last = layer.reverse ? at::zeros_like(layer.lengths) : layer.lengths.sub(1).clamp(0, layer.steps - 1);
  const Tensor after = states.gather(0, last.view({1, -1, 1}).expand({1, -1, states.size(2)}));
  return at::where(layer.lengths.gt(0).unsqueeze(1), after.select(0, 0), before);
}

ForwardResult forward_cuda(const RecurrentShape& shape, const RecurrentArguments& arguments, bool keep_cells, bool keep) {
  check_cuda_dtype(arguments.input, "input");
  const CudaScope scope(arguments.input);
  const RecurrentLayer layer(shape, arguments);
  const int64_t T = layer.steps, N = layer.batch, KH = layer.heads * layer.hidden_size, KGH = layer.heads * layer.gate_size;
  // Outputs of an op must not be the same tensor, not even an empty one.
  const auto none = [&] { return at::empty({0}, layer.sums); };
  const Tensor output = at::empty({T, N, layer.heads * layer.state_size}, layer.options);
  const Tensor cells = keep_cells ? at::empty({T, N, KH}, layer.sums) : none();
  const Tensor memory = keep ? at::empty({T, N, layer.kept_size}, layer.sums) : none();
  if (keep && layer.lengths.defined()) memory.zero_();  // steps that are not taken leave nothing there
  const Tensor c = layer.info.has_cell ? copy_or_zeros(layer.c_0, {N, KH}, layer.sums) : Tensor();

  // Without `keep` the gates of some steps at a time are projected, into the same memory.
  const int64_t step_bytes = std::max<int64_t>(1, N * KGH * static_cast<int64_t>(layer.sums.dtype().itemsize()));
  const int64_t chunk = keep ? T : std::min(T, std::max<int64_t>(1, kProjectionBytes / step_bytes));
  const RecurrentKept kept = keep ? RecurrentKept(layer, memory, T) : RecurrentKept();
  const Tensor gates = keep ? kept.slots : is_projected(layer) ? Tensor() : at::empty({chunk, N, KGH}, layer.sums);
  for (int64_t first = 0; first < T && !is_empty(layer); first += chunk) {
    const int64_t count = std::min(chunk, T - first), row = layer.row(first, count);
    const Tensor gates_x = projected_input(layer, first, count, gates);
    steps_forward(layer, {first, count, gates_x, kept, output, false, keep_cells ? cells.narrow(0, row, count) : Tensor(), c},
                  scope);
  }
  const Tensor c_n = layer.info.has_cell ? c.to(layer.options) : at::empty({0}, layer.options);
  return {output, last_state(layer, output, layer.h_0), c_n, cells, memory};
}

}  // namespace

RecurrentGradients::RecurrentGradients(const RecurrentLayer& layer, const RecurrentOutputGradients& gradients, bool of_weights) {
  const int64_t N = layer.batch, KR = layer.heads * layer.state_size, KH = layer.heads * layer.hidden_size,
                KGH = layer.heads * layer.gate_size;
  const auto zeros = [&](bool wanted, at::IntArrayRef sizes) { return wanted ? at::zeros(sizes, layer.sums) : Tensor(); };
  d_product = at::empty(layer.head_sizes(N, layer.state_size), layer.sums);
  d_direct = copy_or_zeros(gradients.h_n.value_or(Tensor()), {N, KR}, layer.sums);
  if (layer.info.has_cell) d_c = copy_or_zeros(gradients.c_n.value_or(Tensor()), {N, KH}, layer.sums);
  d_h_0 = zeros(layer.h_0.defined(), {N, KR});
  d_c_0 = zeros(layer.c_0.defined(), {N, KH});
  d_weight_cell = zeros(of_weights && layer.weight_cell.defined(), {N, layer.info.parameters, KH});
  d_norm_hh = zeros(of_weights && layer.norm_hh.defined(), {N, KGH});
  d_bias_hh = zeros(of_weights && layer.norm_hh.defined() && layer.bias_hh.defined(), {N, KGH});
  d_norm_c = zeros(of_weights && layer.norm_c.defined(), {N, KH});
  d_norm_c_bias = zeros(of_weights && layer.norm_c_bias.defined(), {N, KH});
}

namespace {

// Adds a b to `sum`, which was zeros before the first time.
void add_product(const Tensor& sum, const Tensor& a, const Tensor& b, bool first) {
  if (first && sum.is_contiguous()) return product(sum, a, b);
  const Tensor more = at::empty(sum.sizes(), sum.options());
  product(more, a, b);
  sum.add_(more);
}

// The gradients of what all steps share, in the dtype of sums; undefined where they are not wanted.
struct SharedGradients {
  Tensor weight_ih, weight_hh, weight_hr, bias_ih, bias_hh;

  explicit SharedGradients(const RecurrentLayer& layer) {
    const auto zeros_like = [&](const Tensor& tensor) {
      return tensor.defined() ? at::zeros(tensor.sizes(), layer.sums) : Tensor();
    };
    weight_ih = zeros_like(layer.weight_ih);
    weight_hh = zeros_like(layer.weight_hh);
    weight_hr = zeros_like(layer.weight_hr);
    bias_ih = zeros_like(layer.bias_ih);
    bias_hh = zeros_like(layer.bias_hh);
  }

  // Adds those of some steps, of which steps_backward has filled `a`.
  void add(const RecurrentLayer& layer, const BackwardSteps& a, bool first, const CudaScope& scope) {
    const Tensor d_x = rows(a.d_gates_x), d_h = a.d_gates_h.defined() ? rows(a.d_gates_h) : d_x;
    if (weight_ih.defined()) add_product(weight_ih, d_x.t(), rows(taken_input(layer, a)), first);
    if (bias_ih.defined()) bias_ih.add_(at::sum(d_x, {0}, false, layer.sums.dtype().toScalarType()));
    if (bias_hh.defined() && !layer.norm_hh.defined()) bias_hh.add_(at::sum(d_h, {0}, false, layer.sums.dtype().toScalarType()));
    if (weight_hr.defined()) add_product(weight_hr, rows(a.d_h).t(), rows(a.kept.cell_h).to(layer.options), first);

    const Tensor entered = at::empty({a.count, layer.batch, layer.heads * layer.state_size}, layer.options);
    enter_steps(layer, a.first, a.count, a.output, entered, scope);
    const Tensor d = layer.by_head(d_h).transpose(-2, -1), h = layer.by_head(rows(entered));
    if (!layer.is_gated()) return add_product(weight_hh, d, h, first);
    const int64_t others = layer.info.gates - 1;
    add_product(layer.first_rows(weight_hh, others), layer.first_rows(d, others), h, first);
    add_product(layer.last_rows(weight_hh), layer.last_rows(d), layer.by_head(rows(a.gated)), first);
  }

 private:
  // The input of some steps, zeros where a step is not taken: there it may hold anything.
  static Tensor taken_input(const RecurrentLayer& layer, const BackwardSteps& a) {
    const int64_t row = layer.row(a.first, a.count);
    const Tensor input = layer.input.narrow(0, row, a.count);
    if (!layer.lengths.defined()) return input;
    const Tensor row_of_step = at::arange(row, row + a.count, layer.lengths.options()).view({a.count, 1, 1});
    return at::where(row_of_step.lt(layer.lengths.view({1, -1, 1})), input, at::zeros({}, layer.options));
  }
};

BackwardResult backward_cuda(const RecurrentShape& shape, const RecurrentArguments& arguments, const RecurrentOutputs& outputs,
                             const RecurrentOutputGradients& of_outputs, const RecurrentWanted& wanted) {
  check_cuda_dtype(arguments.input, "input");
  const CudaScope scope(arguments.input);
  const RecurrentLayer layer(shape, arguments);
  const int64_t T = layer.steps, N = layer.batch, KH = layer.heads * layer.hidden_size, KGH = layer.heads * layer.gate_size;
  const Tensor output = outputs.output.contiguous(), cells = layer.info.has_cell ? outputs.cells.contiguous() : Tensor(),
               d_output = contiguous(of_outputs.output), d_cells = contiguous(of_outputs.cells);
  const RecurrentGradients gradients(layer, of_outputs, wanted.weight_gradients);
  std::optional<SharedGradients> shared;
  if (wanted.weight_gradients) shared.emplace(layer);
  const Tensor d_input = wanted.input_gradient ? at::empty(layer.input.sizes(), layer.options) : Tensor();
  if (d_input.defined() && is_empty(layer)) d_input.zero_();

  const int64_t chunk = wanted.recompute > 0 ? std::min(wanted.recompute, T) : T;
  const auto workspace = [&](bool needed, int64_t size) {
    return needed ? at::empty({chunk, N, size}, layer.options) : Tensor();
  };
  const bool projects = layer.weight_ih.defined();
  const Tensor memory = wanted.recompute > 0 ? at::empty({chunk, N, layer.kept_size}, layer.sums) : outputs.kept.contiguous();
  const Tensor d_gates_x = workspace(projects || !d_input.defined(), KGH);
  const Tensor d_gates_h = workspace(layer.norm_hh.defined() || layer.info.slots > layer.info.gates, KGH);
  const Tensor gated = workspace(layer.is_gated(), KH), d_h = workspace(layer.weight_hr.defined(), layer.state_size);

  const int64_t chunks = is_empty(layer) ? 0 : (T + chunk - 1) / chunk;
  for (int64_t i = chunks - 1; i >= 0; --i) {
    const int64_t first = i * chunk, count = std::min(chunk, T - first), row = layer.row(first, count);
    const auto part = [&](const Tensor& tensor) { return tensor.defined() ? tensor.narrow(0, 0, count) : Tensor(); };
    const RecurrentKept kept(layer, part(memory), count);
    if (wanted.recompute > 0) {
      Tensor c;
      if (layer.info.has_cell)
        c = first > 0 ? cells.select(0, layer.row(first - 1)).clone() : copy_or_zeros(layer.c_0, {N, KH}, layer.sums);
      steps_forward(layer, {first, count, projected_input(layer, first, count, kept.slots), kept, output, true, Tensor(), c},
                    scope);
    }
    const Tensor d_rows = d_input.defined() ? d_input.narrow(0, row, count) : Tensor();
    const BackwardSteps a{first,           count,     kept,       output,
                          cells,           d_output,  d_cells,    d_gates_x.defined() ? part(d_gates_x) : d_rows,
                          part(d_gates_h), part(d_h), part(gated)};
    steps_backward(layer, a, gradients, scope);
    if (projects && d_rows.defined()) product(rows(d_rows), rows(a.d_gates_x), layer.weight_ih);
    if (shared) shared->add(layer, a, i == chunks - 1, scope);
  }
  if (chunks > 0 && layer.h_0.defined()) leave_to_initial_state(layer, gradients, scope);

  // In the arguments' dtypes and shapes.
  const auto as = [&](const MaybeTensor& like, const Tensor& gradient) {
    return like && gradient.defined() ? gradient.to(layer.options).view(like->sizes()) : Tensor();
  };
  const auto sum = [](const Tensor& of_sequences) { return of_sequences.defined() ? at::sum(of_sequences, {0}) : Tensor(); };
  const auto of = [&](Tensor SharedGradients::* member) { return shared ? (*shared).*member : Tensor(); };
  const bool untouched = chunks == 0;
  return {d_input,
          as(arguments.h_0, untouched ? gradients.d_direct : gradients.d_h_0),
          as(arguments.c_0, untouched ? gradients.d_c : gradients.d_c_0),
          as(arguments.weight_ih, of(&SharedGradients::weight_ih)),
          as(arguments.weight_hh, of(&SharedGradients::weight_hh)),
          as(arguments.bias_ih, of(&SharedGradients::bias_ih)),
          as(arguments.bias_hh, layer.norm_hh.defined() ? sum(gradients.d_bias_hh) : of(&SharedGradients::bias_hh)),
          as(arguments.weight_cell, sum(gradients.d_weight_cell)),
          as(arguments.weight_hr, of(&SharedGradients::weight_hr)),
          as(arguments.norm_hh, sum(gradients.d_norm_hh)),
          as(arguments.norm_c, sum(gradients.d_norm_c)),
          as(arguments.norm_c_bias, sum(gradients.d_norm_c_bias))};
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) {
  m.impl("recurrent_forward", recurrent_forward_op<forward_cuda>);
  m.impl("recurrent_backward", recurrent_backward_op<backward_cuda>);
}

}  // namespace seqkern::ops
