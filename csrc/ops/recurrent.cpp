// The recurrent ops: schemas, checks, and the CPU implementation. The autograd formula is in seqkern/functional/recurrent.py.
#include "ops/recurrent.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "cpu/kernels.h"

namespace seqkern::ops {

RecurrentShape check_recurrent(int64_t gates, const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                               const Tensor& weight_hh) {
  TORCH_CHECK_TYPE(input.is_floating_point(), "input has dtype ", input.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_VALUE(input.dim() == 3, "input has shape ", input.sizes(), ", expected 3 dimensions (T, N, D)");
  TORCH_CHECK_VALUE(weight_hh.dim() == 2 && weight_hh.size(0) == gates * weight_hh.size(1), "weight_hh has shape ",
                    weight_hh.sizes(), ", expected (", gates, " * H, H)");
  const RecurrentShape shape{input.size(0), input.size(1), input.size(2), weight_hh.size(1)};
  check_shape(weight_ih, "weight_ih", {gates * shape.hidden_size, shape.input_size}, "(gates * H, D)");
  check_shape(h_0, "h_0", {shape.batch, shape.hidden_size}, "(N, H)");
  check_shape(c_0, "c_0", {shape.batch, shape.hidden_size}, "(N, H)");
  check_like(weight_ih, "weight_ih", input, "input");
  check_like(weight_hh, "weight_hh", input, "input");
  check_like(h_0, "h_0", input, "input");
  check_like(c_0, "c_0", input, "input");
  return shape;
}

void check_bias(const MaybeTensor& bias, const char* name, int64_t rows, const Tensor& input) {
  if (!bias) return;
  check_shape(*bias, name, {rows}, "(gates * H)");
  check_like(*bias, name, input, "input");
}

void check_recurrent_backward(int64_t gate_count, const RecurrentSaved& saved, const RecurrentOutputGradients& gradients) {
  const RecurrentShape shape = check_recurrent(gate_count, saved.input, saved.h_0, saved.c_0, saved.weight_ih, saved.weight_hh);
  const auto [T, N, D, H] = shape;
  check_shape(saved.output, "output", {T, N, H}, "(T, N, H)");
  check_shape(saved.gates, "gates", {T, N, gate_count * H}, "(T, N, gates * H)");
  check_shape(saved.cells, "cells", {T, N, H}, "(T, N, H)");
  check_like(saved.output, "output", saved.input, "input");
  const auto sums = accumulate_type(saved.input.scalar_type());
  TORCH_CHECK_TYPE(saved.gates.scalar_type() == sums && saved.cells.scalar_type() == sums,
                   "gates and cells must be as forward kept them, of dtype ", sums);
  const auto check_gradient = [&](const MaybeTensor& gradient, const char* name, at::IntArrayRef sizes, const char* meaning) {
    if (!gradient) return;
    check_shape(*gradient, name, sizes, meaning);
    check_like(*gradient, name, saved.input, "input");
  };
  check_gradient(gradients.output, "d_output", {T, N, H}, "(T, N, H)");
  check_gradient(gradients.h_n, "d_h_n", {N, H}, "(N, H)");
  check_gradient(gradients.c_n, "d_c_n", {N, H}, "(N, H)");
}

namespace {

constexpr int64_t kLstmGates = 4;

void check_cpu_dtype(const Tensor& input) {
  const auto type = input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble || type == at::kBFloat16, "input has dtype ", type,
                   ", expected float32, float64 or bfloat16 on the CPU");
}

// A tensor as the kernels take it: contiguous, and float32 in place of bfloat16.
Tensor for_kernel(const Tensor& tensor) { return tensor.to(accumulate_type(tensor.scalar_type())).contiguous(); }
Tensor for_kernel(const MaybeTensor& tensor) { return tensor ? for_kernel(*tensor) : Tensor(); }

template <class T>
T* pointer(const Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<T>() : nullptr;
}

RecurrentSizes sizes_of(const RecurrentShape& shape, bool reverse) {
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  return {shape.steps, shape.batch, shape.input_size, shape.hidden_size, reverse, threads};
}

template <class T>
void run_forward(const RecurrentSizes& sizes, const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                 const Tensor& weight_hh, const Tensor& bias_ih, const Tensor& bias_hh, const Tensor& output, const Tensor& h_n,
                 const Tensor& c_n, const Tensor& gates, const Tensor& cells) {
  RecurrentForwardParams<T> p{sizes,
                              pointer<T>(input),
                              pointer<T>(h_0),
                              pointer<T>(c_0),
                              pointer<T>(weight_ih),
                              pointer<T>(weight_hh),
                              pointer<T>(bias_ih),
                              pointer<T>(bias_hh),
                              pointer<T>(output),
                              pointer<T>(h_n),
                              pointer<T>(c_n),
                              pointer<T>(gates),
                              pointer<T>(cells)};
  cpu::kernels<T>().lstm_forward(p);
}

ForwardResult lstm_forward_cpu(const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                               const Tensor& weight_hh, const MaybeTensor& bias_ih, const MaybeTensor& bias_hh, bool reverse,
                               bool keep) {
  const RecurrentShape shape = check_recurrent(kLstmGates, input, h_0, c_0, weight_ih, weight_hh);
  const auto [T, N, D, H] = shape;
  check_bias(bias_ih, "bias_ih", kLstmGates * H, input);
  check_bias(bias_hh, "bias_hh", kLstmGates * H, input);
  check_cpu_dtype(input);
  const auto type = input.scalar_type();
  const auto options = input.options().dtype(accumulate_type(type));
  const Tensor output = at::empty({T, N, H}, options), h_n = at::empty({N, H}, options), c_n = at::empty({N, H}, options);
  const Tensor gates = keep ? at::empty({T, N, kLstmGates * H}, options) : Tensor();
  const Tensor cells = keep ? at::empty({T, N, H}, options) : Tensor();
  const auto run = type == at::kDouble ? run_forward<double> : run_forward<float>;
  run(sizes_of(shape, reverse), for_kernel(input), for_kernel(h_0), for_kernel(c_0), for_kernel(weight_ih), for_kernel(weight_hh),
      for_kernel(bias_ih), for_kernel(bias_hh), output, h_n, c_n, gates, cells);
  const auto kept = [&](const Tensor& tensor) { return keep ? tensor : at::empty({0}, options); };
  return {output.to(type), h_n.to(type), c_n.to(type), kept(gates), kept(cells)};
}

template <class T>
void run_backward(const RecurrentSizes& sizes, const RecurrentSaved& saved, const RecurrentOutputGradients& gradients,
                  const BackwardResult& results) {
  const Tensor input = for_kernel(saved.input), h_0 = for_kernel(saved.h_0), c_0 = for_kernel(saved.c_0),
               weight_ih = for_kernel(saved.weight_ih), weight_hh = for_kernel(saved.weight_hh),
               output = for_kernel(saved.output), gates = saved.gates.contiguous(), cells = saved.cells.contiguous(),
               d_output = for_kernel(gradients.output), d_h_n = for_kernel(gradients.h_n), d_c_n = for_kernel(gradients.c_n);
  RecurrentBackwardParams<T> p{sizes,
                               pointer<T>(input),
                               pointer<T>(h_0),
                               pointer<T>(c_0),
                               pointer<T>(weight_ih),
                               pointer<T>(weight_hh),
                               pointer<T>(output),
                               pointer<T>(gates),
                               pointer<T>(cells),
                               pointer<T>(d_output),
                               pointer<T>(d_h_n),
                               pointer<T>(d_c_n),
                               pointer<T>(std::get<0>(results)),
                               pointer<T>(std::get<1>(results)),
                               pointer<T>(std::get<2>(results)),
                               pointer<T>(std::get<3>(results)),
                               pointer<T>(std::get<4>(results)),
                               pointer<T>(std::get<5>(results))};
  cpu::kernels<T>().lstm_backward(p);
}

BackwardResult lstm_backward_cpu(const MaybeTensor& d_output, const MaybeTensor& d_h_n, const MaybeTensor& d_c_n,
                                 const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                                 const Tensor& weight_hh, const Tensor& output, const Tensor& gates, const Tensor& cells,
                                 bool reverse) {
  const RecurrentSaved saved{input, h_0, c_0, weight_ih, weight_hh, output, gates, cells};
  const RecurrentOutputGradients gradients{d_output, d_h_n, d_c_n};
  check_recurrent_backward(kLstmGates, saved, gradients);
  check_cpu_dtype(input);
  const auto type = input.scalar_type();
  const auto options = input.options().dtype(accumulate_type(type));
  const auto like = [&](const Tensor& tensor) { return at::empty(tensor.sizes(), options); };
  BackwardResult results{like(input),     like(h_0),       like(c_0),
                         like(weight_ih), like(weight_hh), at::empty({weight_hh.size(0)}, options)};
  const RecurrentSizes sizes = sizes_of({input.size(0), input.size(1), input.size(2), weight_hh.size(1)}, reverse);
  (type == at::kDouble ? run_backward<double> : run_backward<float>)(sizes, saved, gradients, results);
  return std::apply([&](const auto&... result) { return BackwardResult{result.to(type)...}; }, results);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  m.def(
      "lstm_forward(Tensor input, Tensor h_0, Tensor c_0, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
      "Tensor? bias_hh, bool reverse, bool keep) "
      "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor gates, Tensor cells)",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "lstm_backward(Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor input, Tensor h_0, Tensor c_0, "
      "Tensor weight_ih, Tensor weight_hh, Tensor output, Tensor gates, Tensor cells, bool reverse) "
      "-> (Tensor d_input, Tensor d_h_0, Tensor d_c_0, Tensor d_weight_ih, Tensor d_weight_hh, Tensor d_bias)",
      {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) {
  m.impl("lstm_forward", lstm_forward_cpu);
  m.impl("lstm_backward", lstm_backward_cpu);
}

}  // namespace seqkern::ops
