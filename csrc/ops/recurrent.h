// The recurrent ops' arguments, checked, as the CPU and the CUDA implementation both take them.
//
// Shapes: T steps, N sequences, D input features, H hidden units and R features of the hidden state of each of K heads, G gates.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string_view>
#include <tuple>

#include "math/cells.h"
#include "ops/checks.h"

namespace seqkern::ops {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

// What forward and backward share.
struct RecurrentArguments {
  const Tensor& input;                       // [T, N, D]; [T, N, K * G * H] without weight_ih
  const MaybeTensor &h_0, &c_0;              // [N, K * R], [N, K * H]
  const MaybeTensor& weight_ih;              // [G * H, D]
  const Tensor& weight_hh;                   // [G * H, R], or [K, G * H, H]
  const MaybeTensor &bias_ih, &bias_hh;      // [K * G * H]
  const MaybeTensor& weight_cell;            // [parameters, K * H]
  const MaybeTensor& weight_hr;              // [R, H]
  const MaybeTensor& norm_hh;                // [K * G * H]
  const MaybeTensor &norm_c, &norm_c_bias;   // [K * H]
  const MaybeTensor& lengths;                // [N], int64
  const MaybeTensor& resets;                 // [T, N], bool
  const MaybeTensor& recurrent_mask;         // [N, K * R]
  const MaybeTensor &zoneout_h, &zoneout_c;  // [T, N, K * H]
  bool reset_to_initial;
  bool reverse;
};

struct RecurrentOutputs {
  const Tensor &output, &cells, &kept;
};
// Absent: zero.
struct RecurrentOutputGradients {
  const MaybeTensor &output, &h_n, &c_n, &cells;
};
struct RecurrentWanted {
  int64_t recompute;  // 0: gates were kept
  bool input_gradient, weight_gradients;
};

// What the arguments amount to.
struct RecurrentShape {
  int cell;  // its place in the list of cells
  math::CellInfo info;
  int64_t steps, batch, input_size, hidden_size, state_size, heads;
  int64_t gate_size;  // G * H
  int64_t kept_size;  // values kept of a step and sequence
};

// Checks them, and finds their shape.
RecurrentShape check_recurrent(std::string_view cell, const RecurrentArguments& arguments);
void check_recurrent_backward(const RecurrentShape& shape, const RecurrentArguments& arguments, const RecurrentOutputs& outputs,
                              const RecurrentOutputGradients& gradients, const RecurrentWanted& wanted);

// output, h_n, c_n, cells, kept
using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
// The gradients of input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_cell, weight_hr, norm_hh, norm_c, norm_c_bias;
// undefined where not wanted.
using BackwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// The ops' C++ signatures, for a backend's implementation
//   run(shape, arguments, keep_cells, keep) -> ForwardResult
//   run(shape, arguments, outputs, gradients, wanted) -> BackwardResult
// Gradients that it leaves undefined become empty tensors.
#define SEQKERN_RECURRENT_ARGUMENTS                                                                                           \
  const Tensor &input, const MaybeTensor &h_0, const MaybeTensor &c_0, const MaybeTensor &weight_ih, const Tensor &weight_hh, \
      const MaybeTensor &bias_ih, const MaybeTensor &bias_hh, const MaybeTensor &weight_cell, const MaybeTensor &weight_hr,   \
      const MaybeTensor &norm_hh, const MaybeTensor &norm_c, const MaybeTensor &norm_c_bias, const MaybeTensor &lengths,      \
      const MaybeTensor &resets, const MaybeTensor &recurrent_mask, const MaybeTensor &zoneout_h, const MaybeTensor &zoneout_c

#define SEQKERN_RECURRENT_ARGUMENT_NAMES                                                                                  \
  input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_cell, weight_hr, norm_hh, norm_c, norm_c_bias, lengths, \
      resets, recurrent_mask, zoneout_h, zoneout_c

template <auto run>
ForwardResult recurrent_forward_op(c10::string_view cell, SEQKERN_RECURRENT_ARGUMENTS, bool reset_to_initial, bool reverse,
                                   bool keep_cells, bool keep) {
  const RecurrentArguments arguments{SEQKERN_RECURRENT_ARGUMENT_NAMES, reset_to_initial, reverse};
  const RecurrentShape shape = check_recurrent({cell.data(), cell.size()}, arguments);
  return run(shape, arguments, keep_cells && shape.info.has_cell, keep);
}

template <auto run>
BackwardResult recurrent_backward_op(c10::string_view cell, const MaybeTensor& d_output, const MaybeTensor& d_h_n,
                                     const MaybeTensor& d_c_n, const MaybeTensor& d_cells, SEQKERN_RECURRENT_ARGUMENTS,
                                     const Tensor& output, const Tensor& cells, const Tensor& kept, bool reset_to_initial,
                                     bool reverse, int64_t recompute, bool input_gradient, bool weight_gradients) {
  const RecurrentArguments arguments{SEQKERN_RECURRENT_ARGUMENT_NAMES, reset_to_initial, reverse};
  const RecurrentOutputs outputs{output, cells, kept};
  const RecurrentOutputGradients gradients{d_output, d_h_n, d_c_n, d_cells};
  const RecurrentWanted wanted{recompute, input_gradient, weight_gradients};
  const RecurrentShape shape = check_recurrent({cell.data(), cell.size()}, arguments);
  check_recurrent_backward(shape, arguments, outputs, gradients, wanted);
  BackwardResult result = run(shape, arguments, outputs, gradients, wanted);
  const auto present = [&](Tensor& tensor) {
    if (!tensor.defined()) tensor = at::empty({0}, input.options());
  };
  std::apply([&](auto&... tensors) { (present(tensors), ...); }, result);
  return result;
}

// The dtype of sums, cell states and what is kept: float64 for float64, else float32.
inline at::ScalarType accumulate_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace seqkern::ops
