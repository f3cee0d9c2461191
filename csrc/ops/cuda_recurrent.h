// The recurrent layer on CUDA, as its two parts know it: the recurrence itself (cuda_recurrent_steps.cpp), and the products over
// all steps around it (cuda_recurrent.cpp).
//
// steps_forward and steps_backward run the recurrence, one product and one kernel a step. They take projected gates and leave all
// products over the whole sequence to their callers: a kernel that stays on the device for all steps has the same duties and
// would stand in their place.
#pragma once

#include <ATen/core/DimVector.h>

#include "ops/cuda_dispatch.h"
#include "ops/recurrent.h"

namespace seqkern::ops {

// out = a b, of matrices or batches of them, in the dtype of out: that of a and b, or float32 for half types.
void product(const Tensor& out, const Tensor& a, const Tensor& b);

// The arguments as the kernels take them: contiguous, undefined where absent.
struct RecurrentLayer : RecurrentShape {
  RecurrentLayer(const RecurrentShape& shape, const RecurrentArguments& arguments);

  Tensor input, h_0, c_0, weight_ih, weight_hh, bias_ih, bias_hh, weight_cell, weight_hr, norm_hh, norm_c, norm_c_bias;
  Tensor lengths, resets, recurrent_mask, zoneout_h, zoneout_c;
  bool reset_to_initial, reverse;
  at::TensorOptions options, sums;  // of the tensors, and of sums and states

  bool is_gated() const { return info.candidate == math::Candidate::gated; }
  // Whether the product with W_hh takes something else than the output of the step before.
  bool is_uneven() const { return lengths.defined() || resets.defined() || recurrent_mask.defined(); }
  // Step `step` of the recurrence is this row of the arrays; the first row of `count` steps from `step` on.
  int64_t row(int64_t step, int64_t count = 1) const { return reverse ? steps - step - count : step; }

  // The rows of W_hh for the first gates, and for the last; with several heads, of each: [K, rows, R].
  Tensor first_rows(const Tensor& weight, int64_t gates) const { return weight.narrow(-2, 0, gates * hidden_size); }
  Tensor last_rows(const Tensor& weight) const { return weight.narrow(-2, gate_size - hidden_size, hidden_size); }
  // [M, K * F] as K matrices [K, M, F], or as one where K is 1.
  Tensor by_head(const Tensor& tensor) const {
    return heads == 1 ? tensor : tensor.view({tensor.size(0), heads, tensor.size(1) / heads}).transpose(0, 1);
  }
  // An array of K matrices that the kernels take in this layout, or of one.
  at::DimVector head_sizes(int64_t rows, int64_t columns) const {
    return heads == 1 ? at::DimVector{rows, columns} : at::DimVector{heads, rows, columns};
  }
};

// What forward leaves for backward of some steps; undefined where it does not.
struct RecurrentKept {
  RecurrentKept() = default;
  // In `memory`, of steps * N * kept_size elements.
  RecurrentKept(const RecurrentLayer& layer, const Tensor& memory, int64_t steps);

  Tensor slots;        // [steps, N, K * G * H]
  Tensor hidden_slot;  // [steps, N, K * H]
  Tensor cell_h;       // [steps, N, K * H]
  Tensor normal_hh;    // [steps, N, K * G * H]
  Tensor scale_hh;     // [steps, N, K]
  Tensor normal_c;     // [steps, N, K * H]
  Tensor scale_c;      // [steps, N, K]
};

// Arrays of `count` steps from `first` on have their rows in the order of time, as those of all steps have.
struct ForwardSteps {
  int64_t first, count;
  Tensor gates_x;             // [count, N, K * G * H]: x W_ih^T
  const RecurrentKept& kept;  // its slots may be gates_x
  Tensor output;              // [T, N, K * R]
  bool again;                 // output holds all steps already, and is only read
  Tensor cells;               // [count, N, K * H], or undefined: written
  Tensor c;                   // [N, K * H]: state before the first step taken, and after the last
};
void steps_forward(const RecurrentLayer& layer, const ForwardSteps& a, const CudaScope& scope);

// Gradients that go from step to step, and sums over the steps.
struct RecurrentGradients {
  RecurrentGradients(const RecurrentLayer& layer, const RecurrentOutputGradients& gradients, bool of_weights);

  Tensor d_product;                                      // [K, N, R]: of the product's input
  Tensor d_direct;                                       // [N, K * R]: of the hidden state besides
  Tensor d_c;                                            // [N, K * H]
  Tensor d_h_0;                                          // [N, K * R]; undefined without h_0
  Tensor d_c_0;                                          // [N, K * H]
  Tensor d_weight_cell;                                  // [N, P, K * H]
  Tensor d_norm_hh, d_bias_hh, d_norm_c, d_norm_c_bias;  // [N, ...]; d_bias_hh with norm_hh only
};

struct BackwardSteps {
  int64_t first, count;
  const RecurrentKept& kept;
  Tensor output, cells;      // [T, N, K * R], [T, N, K * H]
  Tensor d_output, d_cells;  // [T, N, K * R], [T, N, K * H], or undefined
  // Written: gradients of the pre-activations' input part, and of W_hh h where that differs; of the hidden state, where it is
  // projected; and the input of the candidate's product again, where that is gated.
  Tensor d_gates_x, d_gates_h;  // [count, N, K * G * H]
  Tensor d_h;                   // [count, N, R]
  Tensor gated;                 // [count, N, K * H]
};
// From the last step of these to the first.
void steps_backward(const RecurrentLayer& layer, const BackwardSteps& a, const RecurrentGradients& gradients,
                    const CudaScope& scope);

// Writes the inputs of the products with W_hh, [count, N, K * R], from the output of the steps before.
void enter_steps(const RecurrentLayer& layer, int64_t first, int64_t count, const Tensor& output, const Tensor& h,
                 const CudaScope& scope);

// Once all steps are through: what their gradient is of the initial hidden state.
void leave_to_initial_state(const RecurrentLayer& layer, const RecurrentGradients& gradients, const CudaScope& scope);

}  // namespace seqkern::ops
