// The recurrent ops on CUDA. Schemas and checks are in ops/recurrent.cpp, kernels in cuda/recurrent.cu.
//
// Products are ATen's, so that torch's settings (TF32, reduced-precision sums, determinism) hold for them. For half types they
// store their float32 sums as they are: pre-activations and the gradients carried from step to step are never rounded to half;
// what a product reads (h, and the gradient of the pre-activations) is.
//
// steps_forward and steps_backward run the recurrence, one product and one kernel a step. They take projected gates and leave
// all products over the whole sequence to their callers: a kernel that stays on the device for all steps has the same duties
// and would stand in their place.
//
// Nothing here waits for the device, and all memory is the caching allocator's: the ops can be captured in CUDA graphs.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include <algorithm>

#include "cuda/recurrent.h"
#include "ops/cuda_dispatch.h"
#include "ops/recurrent.h"

namespace seqkern::ops {
namespace {

constexpr int64_t kGates = 4;
constexpr int64_t kProjectionBytes = int64_t{1} << 26;  // of projected gates, where they need not be kept

// out = a b, in the dtype of out: that of a and b, or float32 for half types.
void product(Tensor out, const Tensor& a, const Tensor& b) {
  if (out.scalar_type() == a.scalar_type())
    at::mm_out(out, a, b);
  else
    at::mm_out(out, a, b, out.scalar_type());
}

// [T, N, F] as the matrix of its rows, [T * N, F].
Tensor rows(const Tensor& tensor) { return tensor.reshape({tensor.size(0) * tensor.size(1), tensor.size(2)}); }

Tensor contiguous(const MaybeTensor& tensor) { return tensor ? tensor->contiguous() : Tensor(); }

// The state before and after the steps taken so far.
struct State {
  Tensor h;  // [N, H], dtype of the input
  Tensor c;  // [N, H], dtype of sums
};

struct ForwardSteps {
  Tensor gates;             // [steps, N, G * H]: x W_ih^T in; activations out if `keep`
  Tensor weight_hh;         // [G * H, H]
  Tensor bias_ih, bias_hh;  // [G * H], or undefined
  Tensor output;            // [steps, N, H]: written
  Tensor cells;             // [steps, N, H], or [1, N, H] if not `keep`: written
  bool reverse;             // from the last row to the first
  bool keep;
};

State steps_forward(const ForwardSteps& a, State state, const CudaScope& scope) {
  const int64_t steps = a.output.size(0), N = a.output.size(1), H = a.output.size(2);
  const Tensor gates_h = at::empty({N, kGates * H}, a.gates.options()), weight = a.weight_hh.t();
  for_dtype(a.output.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using S = cuda::Sum<T>;
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t row = a.reverse ? steps - 1 - s : s;
      const Tensor gates = a.gates.select(0, row);
      const State next{a.output.select(0, row), a.cells.select(0, a.keep ? row : 0)};
      product(gates_h, state.h, weight);
      RecurrentStepForwardParams<T, S> p{};
      p.batch = N;
      p.hidden_size = H;
      p.gates_x = input_pointer<S>(gates);
      p.gates_h = input_pointer<S>(gates_h);
      p.bias_ih = input_pointer<T>(a.bias_ih);
      p.bias_hh = input_pointer<T>(a.bias_hh);
      p.c_prev = input_pointer<S>(state.c);
      p.c = output_pointer<S>(next.c);
      p.h = output_pointer<T>(next.h);
      p.gates = a.keep ? output_pointer<S>(gates) : nullptr;
      C10_CUDA_CHECK(cuda::launch_lstm_step_forward(p, scope.stream()));
      state = next;
    }
  });
  return state;
}

ForwardResult lstm_forward_cuda(const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                                const Tensor& weight_hh, const MaybeTensor& bias_ih, const MaybeTensor& bias_hh, bool reverse,
                                bool keep) {
  const RecurrentShape shape = check_recurrent(kGates, input, h_0, c_0, weight_ih, weight_hh);
  const auto [T, N, D, H] = shape;
  check_bias(bias_ih, "bias_ih", kGates * H, input);
  check_bias(bias_hh, "bias_hh", kGates * H, input);
  check_cuda_dtype(input, "input");
  const CudaScope scope(input);
  const auto options = input.options(), sums = options.dtype(accumulate_type(input.scalar_type()));

  // Without `keep` the gates of some steps at a time are projected, into the same memory.
  const int64_t step_bytes = std::max<int64_t>(1, N * kGates * H * static_cast<int64_t>(sums.dtype().itemsize()));
  const int64_t chunk = keep ? T : std::min(T, std::max<int64_t>(1, kProjectionBytes / step_bytes));
  const Tensor gates = at::empty({chunk, N, kGates * H}, sums), cells = at::empty({keep ? T : 1, N, H}, sums);
  const Tensor output = at::empty({T, N, H}, options), h_n = at::empty({N, H}, options), c_n = at::empty({N, H}, options);
  const Tensor weight = weight_hh.contiguous(), ih = contiguous(bias_ih), hh = contiguous(bias_hh);

  State state{h_0.contiguous(), c_0.to(sums.dtype().toScalarType()).contiguous()};
  for (int64_t first = 0; first < T; first += chunk) {
    const int64_t count = std::min(chunk, T - first), row = reverse ? T - first - count : first;
    const Tensor part = gates.narrow(0, 0, count);
    product(rows(part), rows(input.narrow(0, row, count)), weight_ih.t());
    state = steps_forward(
        {part, weight, ih, hh, output.narrow(0, row, count), keep ? cells.narrow(0, row, count) : cells, reverse, keep}, state,
        scope);
  }
  h_n.copy_(state.h);
  c_n.copy_(state.c);
  const auto kept = [&](const Tensor& tensor) { return keep ? tensor : at::empty({0}, sums); };
  return {output, h_n, c_n, kept(gates), kept(cells)};
}

struct BackwardSteps {
  Tensor weight_hh;  // [G * H, H]
  Tensor gates;      // [T, N, G * H]: activations
  Tensor c_0;        // [N, H], dtype of sums
  Tensor cells;      // [T, N, H]
  Tensor d_output;   // [T, N, H], or undefined for zeros
  Tensor d_h, d_c;   // [N, H], dtype of sums: gradient of the last state in, of the first out
  Tensor d_gates;    // [T, N, G * H]: gradient of the pre-activations, written
  bool reverse;
};

void steps_backward(const BackwardSteps& a, const CudaScope& scope) {
  const int64_t steps = a.cells.size(0), N = a.cells.size(1), H = a.cells.size(2);
  for_dtype(a.d_gates.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using S = cuda::Sum<T>;
    for (int64_t s = steps - 1; s >= 0; --s) {
      const int64_t row = a.reverse ? steps - 1 - s : s, before = a.reverse ? row + 1 : row - 1;
      const Tensor d_gates = a.d_gates.select(0, row);
      RecurrentStepBackwardParams<T, S> p{};
      p.batch = N;
      p.hidden_size = H;
      p.gates = input_pointer<S>(a.gates.select(0, row));
      p.c_prev = input_pointer<S>(s == 0 ? a.c_0 : a.cells.select(0, before));
      p.c = input_pointer<S>(a.cells.select(0, row));
      p.d_output = a.d_output.defined() ? input_pointer<T>(a.d_output.select(0, row)) : nullptr;
      p.d_h = input_pointer<S>(a.d_h);
      p.d_c = output_pointer<S>(a.d_c);
      p.d_gates = output_pointer<T>(d_gates);
      C10_CUDA_CHECK(cuda::launch_lstm_step_backward(p, scope.stream()));
      product(a.d_h, d_gates, a.weight_hh);
    }
  });
}

// The output of the step before each step: [T, N, H] with h_0 at the recurrence's start.
Tensor previous_output(const Tensor& h_0, const Tensor& output, bool reverse) {
  const int64_t steps = output.size(0);
  if (steps == 0) return output;
  const Tensor first = h_0.unsqueeze(0);
  return reverse ? at::cat({output.narrow(0, 1, steps - 1), first}) : at::cat({first, output.narrow(0, 0, steps - 1)});
}

BackwardResult lstm_backward_cuda(const MaybeTensor& d_output, const MaybeTensor& d_h_n, const MaybeTensor& d_c_n,
                                  const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                                  const Tensor& weight_hh, const Tensor& output, const Tensor& gates, const Tensor& cells,
                                  bool reverse) {
  const RecurrentSaved saved{input, h_0, c_0, weight_ih, weight_hh, output, gates, cells};
  check_recurrent_backward(kGates, saved, {d_output, d_h_n, d_c_n});
  const CudaScope scope(input);
  const int64_t T = input.size(0), N = input.size(1), H = weight_hh.size(1);
  const auto options = input.options(), sums = gates.options();
  const auto new_like = [&](const Tensor& tensor) { return at::empty(tensor.sizes(), options); };
  const auto carry = [&](const MaybeTensor& given) {
    const Tensor tensor = at::empty({N, H}, sums);
    return given ? tensor.copy_(*given) : tensor.zero_();
  };
  const Tensor d_input = new_like(input), d_h_0 = new_like(h_0), d_c_0 = new_like(c_0), d_weight_ih = new_like(weight_ih),
               d_weight_hh = new_like(weight_hh), d_bias = at::empty({kGates * H}, options),
               d_gates = at::empty({T, N, kGates * H}, options), d_h = carry(d_h_n), d_c = carry(d_c_n);

  steps_backward({weight_hh.contiguous(), gates.contiguous(), c_0.to(gates.scalar_type()).contiguous(), cells.contiguous(),
                  contiguous(d_output), d_h, d_c, d_gates, reverse},
                 scope);
  d_h_0.copy_(d_h);
  d_c_0.copy_(d_c);

  const Tensor d = rows(d_gates);
  product(rows(d_input), d, weight_ih);
  product(d_weight_ih, d.t(), rows(input));
  product(d_weight_hh, d.t(), rows(previous_output(h_0, output, reverse)));
  Tensor d_bias_out = d_bias;
  at::sum_out(d_bias_out, d, at::IntArrayRef{0});
  return {d_input, d_h_0, d_c_0, d_weight_ih, d_weight_hh, d_bias};
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) {
  m.impl("lstm_forward", lstm_forward_cuda);
  m.impl("lstm_backward", lstm_backward_cuda);
}

}  // namespace seqkern::ops
