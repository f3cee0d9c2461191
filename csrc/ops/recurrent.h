// The recurrent ops' arguments, checked and laid out, as the CPU and the CUDA implementation both need them.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "ops/checks.h"

namespace seqkern::ops {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

struct RecurrentShape {
  int64_t steps, batch, input_size, hidden_size;
};

// Checks the arguments that forward and backward share; `gates` is the number of gates of the cell.
RecurrentShape check_recurrent(int64_t gates, const Tensor& input, const Tensor& h_0, const Tensor& c_0, const Tensor& weight_ih,
                               const Tensor& weight_hh);

void check_bias(const MaybeTensor& bias, const char* name, int64_t rows, const Tensor& input);

// What backward is given: what forward took and kept, and the gradients of its outputs (absent: zero).
struct RecurrentSaved {
  const Tensor &input, &h_0, &c_0, &weight_ih, &weight_hh, &output, &gates, &cells;
};
struct RecurrentOutputGradients {
  const MaybeTensor &output, &h_n, &c_n;
};
void check_recurrent_backward(int64_t gate_count, const RecurrentSaved& saved, const RecurrentOutputGradients& gradients);

// output, h_n, c_n, gates, cells
using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
// input, h_0, c_0, weight_ih, weight_hh, bias
using BackwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// The dtype of sums, gates and cell states: float64 for float64, else float32.
inline at::ScalarType accumulate_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace seqkern::ops
