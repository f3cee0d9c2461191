// Checks of the recurrent ops' arguments.
#include "ops/recurrent.h"

namespace seqkern::ops {

namespace {

std::string cell_names() {
  std::string names;
  for (const std::string_view name : math::kCellNames) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

void check_optional(const MaybeTensor& tensor, const char* name, at::IntArrayRef expected, const char* meaning,
                    const Tensor& input) {
  if (!tensor) return;
  check_shape(*tensor, name, expected, meaning);
  check_like(*tensor, name, input, "input");
}

void check_index(const MaybeTensor& tensor, const char* name, at::ScalarType type, at::IntArrayRef expected, const char* meaning,
                 const Tensor& input) {
  if (!tensor) return;
  TORCH_CHECK_TYPE(tensor->scalar_type() == type, name, " has dtype ", tensor->scalar_type(), ", expected ", type);
  check_shape(*tensor, name, expected, meaning);
  TORCH_CHECK_VALUE(tensor->device() == input.device(), name, " is on ", tensor->device(), ", expected ", input.device(),
                    " as input is");
}

void check_combinations(std::string_view cell, const math::CellInfo& info, const RecurrentArguments& a) {
  const auto check_has_cell = [&](const MaybeTensor& tensor, const char* name) {
    TORCH_CHECK_VALUE(info.has_cell || !tensor, name, " is given, but \"", cell, "\" has no cell state");
  };
  check_has_cell(a.c_0, "c_0");
  check_has_cell(a.zoneout_c, "zoneout_c");
  check_has_cell(a.norm_c, "norm_c");
  check_has_cell(a.weight_hr, "weight_hr");
  TORCH_CHECK_VALUE(bool(a.weight_cell) == (info.parameters > 0), "weight_cell is ", a.weight_cell ? "given" : "None", ", but \"",
                    cell, "\" has ", info.parameters, " parameters of its own");
  TORCH_CHECK_VALUE(!a.weight_hr || !a.zoneout_h, "zoneout_h and weight_hr do not go together");
  TORCH_CHECK_VALUE(!a.norm_hh || info.candidate != math::Candidate::gated, "norm_hh is not for \"", cell,
                    "\", whose candidate is gated before its product");
  TORCH_CHECK_VALUE(a.norm_c || !a.norm_c_bias, "norm_c_bias is given without norm_c");
}

}  // namespace

RecurrentShape check_recurrent(std::string_view cell, const RecurrentArguments& a) {
  RecurrentShape s{};
  s.cell = math::find_cell(cell);
  TORCH_CHECK_VALUE(s.cell >= 0, "cell is \"", cell, "\", expected one of ", cell_names());
  s.info = math::kCells[s.cell];
  const int64_t G = s.info.gates;
  TORCH_CHECK_TYPE(a.input.is_floating_point(), "input has dtype ", a.input.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_VALUE(a.input.dim() == 3, "input has shape ", a.input.sizes(), ", expected 3 dimensions (T, N, D)");
  check_combinations(cell, s.info, a);

  const at::IntArrayRef hh = a.weight_hh.sizes();
  const bool heads = hh.size() == 3;
  TORCH_CHECK_VALUE(heads || hh.size() == 2, "weight_hh has shape ", hh,
                    ", expected 2 dimensions (gates * H, H), or 3 (heads, gates * H, H)");
  s.heads = heads ? hh[0] : 1;
  s.state_size = hh.back();
  if (a.weight_hr) {
    TORCH_CHECK_VALUE(!heads, "weight_hr and heads do not go together");
    TORCH_CHECK_VALUE(a.weight_hr->dim() == 2 && a.weight_hr->size(0) == s.state_size, "weight_hr has shape ",
                      a.weight_hr->sizes(), ", expected (", s.state_size, ", H)");
    s.hidden_size = a.weight_hr->size(1);
  } else {
    s.hidden_size = s.state_size;
  }
  s.gate_size = G * s.hidden_size;
  TORCH_CHECK_VALUE(hh[hh.size() - 2] == s.gate_size, "weight_hh has shape ", hh, ", expected (", heads ? "heads, " : "", G,
                    " * H, ", a.weight_hr ? "R" : "H", "), with H = ", s.hidden_size);
  s.steps = a.input.size(0);
  s.batch = a.input.size(1);
  s.input_size = a.input.size(2);
  const int64_t N = s.batch, KH = s.heads * s.hidden_size, KR = s.heads * s.state_size, KGH = s.heads * s.gate_size;
  if (a.weight_ih) {
    TORCH_CHECK_VALUE(!heads, "weight_ih is given and weight_hh has heads; expected projected input, and weight_ih None");
    check_optional(a.weight_ih, "weight_ih", {s.gate_size, s.input_size}, "(gates * H, D)", a.input);
  } else {
    TORCH_CHECK_VALUE(s.input_size == KGH, "input has shape ", a.input.sizes(), ", expected (T, N, ", KGH,
                      ") = (T, N, heads * gates * H), projected, as weight_ih is None");
  }
  check_like(a.weight_hh, "weight_hh", a.input, "input");
  check_optional(a.h_0, "h_0", {N, KR}, a.weight_hr ? "(N, R)" : "(N, H)", a.input);
  check_optional(a.c_0, "c_0", {N, KH}, "(N, H)", a.input);
  check_optional(a.bias_ih, "bias_ih", {KGH}, "(gates * H)", a.input);
  check_optional(a.bias_hh, "bias_hh", {KGH}, "(gates * H)", a.input);
  check_optional(a.weight_cell, "weight_cell", {s.info.parameters, KH}, "(parameters, H)", a.input);
  if (a.weight_hr) check_like(*a.weight_hr, "weight_hr", a.input, "input");
  check_optional(a.norm_hh, "norm_hh", {KGH}, "(gates * H)", a.input);
  check_optional(a.norm_c, "norm_c", {KH}, "(H)", a.input);
  check_optional(a.norm_c_bias, "norm_c_bias", {KH}, "(H)", a.input);
  check_index(a.lengths, "lengths", at::kLong, {N}, "(N)", a.input);
  check_index(a.resets, "resets", at::kBool, {s.steps, N}, "(T, N)", a.input);
  check_optional(a.recurrent_mask, "recurrent_mask", {N, KR}, "(N, H)", a.input);
  check_optional(a.zoneout_h, "zoneout_h", {s.steps, N, KH}, "(T, N, H)", a.input);
  check_optional(a.zoneout_c, "zoneout_c", {s.steps, N, KH}, "(T, N, H)", a.input);

  const int64_t H = s.hidden_size;
  s.kept_size = s.heads * (s.info.slots * H + (a.weight_hr ? H : 0) + (a.norm_hh ? s.gate_size + 1 : 0) + (a.norm_c ? H + 1 : 0));
  return s;
}

void check_recurrent_backward(const RecurrentShape& s, const RecurrentArguments& a, const RecurrentOutputs& outputs,
                              const RecurrentOutputGradients& gradients, const RecurrentWanted& wanted) {
  const int64_t T = s.steps, N = s.batch, KH = s.heads * s.hidden_size, KR = s.heads * s.state_size;
  const auto sums = accumulate_type(a.input.scalar_type());
  check_shape(outputs.output, "output", {T, N, KR}, "(T, N, H)");
  check_like(outputs.output, "output", a.input, "input");
  TORCH_CHECK_TYPE(outputs.kept.scalar_type() == sums && outputs.cells.scalar_type() == sums,
                   "kept and cells must be as forward made them, of dtype ", sums);
  if (s.info.has_cell) check_shape(outputs.cells, "cells", {T, N, KH}, "(T, N, H)");
  TORCH_CHECK_VALUE(wanted.recompute >= 0, "recompute is ", wanted.recompute, ", expected 0 or a number of steps");
  if (wanted.recompute == 0) check_shape(outputs.kept, "kept", {T, N, s.kept_size}, "what forward kept");
  check_optional(gradients.output, "d_output", {T, N, KR}, "(T, N, H)", a.input);
  check_optional(gradients.h_n, "d_h_n", {N, KR}, "(N, H)", a.input);
  check_optional(gradients.c_n, "d_c_n", {N, KH}, "(N, H)", a.input);
  if (gradients.cells) {
    TORCH_CHECK_TYPE(gradients.cells->scalar_type() == sums, "d_cells has dtype ", gradients.cells->scalar_type(), ", expected ",
                     sums);
    check_shape(*gradients.cells, "d_cells", {T, N, KH}, "(T, N, H)");
  }
}

}  // namespace seqkern::ops
