// The checks of the softmax-loss ops' arguments.
#include "ops/softmax.h"

namespace seqkern::ops {

Reduction checked_reduction(int64_t reduction) {
  TORCH_CHECK_VALUE(reduction >= 0 && reduction <= 2, "reduction is ", reduction, ", expected 0 (none), 1 (mean) or 2 (sum)");
  return static_cast<Reduction>(reduction);
}

void check_scale(const Tensor& tensor, const Tensor& by) {
  TORCH_CHECK_VALUE(tensor.is_contiguous(), "tensor has strides ", tensor.strides(), ", expected contiguous ones");
  check_shape(by, "by", {}, "a scalar");
  TORCH_CHECK_TYPE(by.is_floating_point(), "by has dtype ", by.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_VALUE(by.device() == tensor.device(), "by is on ", by.device(), ", expected ", tensor.device(), " as tensor is");
}

int64_t check_logits(const Tensor& logits) {
  TORCH_CHECK_TYPE(logits.is_floating_point(), "logits has dtype ", logits.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_VALUE(logits.dim() >= 1 && logits.size(-1) > 0, "logits has shape ", logits.sizes(),
                    ", expected (..., V) with V > 0");
  return logits.size(-1);
}

int64_t check_linear(const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias) {
  TORCH_CHECK_TYPE(hidden.is_floating_point(), "hidden has dtype ", hidden.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_VALUE(hidden.dim() >= 1, "hidden has shape [], expected (..., H)");
  check_like(weight, "weight", hidden, "hidden");
  TORCH_CHECK_VALUE(weight.dim() == 2 && weight.size(0) > 0 && weight.size(1) == hidden.size(-1), "weight has shape ",
                    weight.sizes(), ", expected (V, ", hidden.size(-1), ") = (V, H) with V > 0");
  if (bias) {
    check_like(*bias, "bias", hidden, "hidden");
    check_shape(*bias, "bias", {weight.size(0)}, "(V,)");
  }
  return weight.size(0);
}

SoftmaxProblem::SoftmaxProblem(const SoftmaxArguments& a, const Tensor& like, const char* name, int64_t classes)
    : arguments(a), classes(classes), soft(a.target.is_floating_point()) {
  const auto type = like.scalar_type();
  const bool shard = a.all_classes != 0;
  row_sizes = like.sizes().slice(0, static_cast<size_t>(like.dim() - 1)).vec();
  rows = c10::multiply_integers(row_sizes);
  sums = like.options().dtype(softmax_sum_type(type));

  TORCH_CHECK_TYPE(soft || a.target.scalar_type() == at::kLong, "target has dtype ", a.target.scalar_type(),
                   ", expected int64 (classes) or a floating-point dtype (probabilities)");
  std::vector<int64_t> expected = row_sizes;
  if (soft) expected.push_back(classes);
  TORCH_CHECK_VALUE(a.target.sizes() == expected, "target has shape ", a.target.sizes(), ", expected ", at::IntArrayRef(expected),
                    " = the shape of ", name, " without its last dimension", soft ? ", and V" : "");
  TORCH_CHECK_VALUE(a.target.device() == like.device(), "target is on ", a.target.device(), ", expected ", like.device(), " as ",
                    name, " is");
  target = (soft ? a.target.to(type) : a.target).contiguous();
  if (a.class_weight) {
    TORCH_CHECK_TYPE(a.class_weight->is_floating_point(), "class weight has dtype ", a.class_weight->scalar_type(),
                     ", expected a floating-point dtype");
    check_shape(*a.class_weight, "class weight", {classes}, "(V,)");
    TORCH_CHECK_VALUE(a.class_weight->device() == like.device(), "class weight is on ", a.class_weight->device(), ", expected ",
                      like.device(), " as ", name, " is");
    class_weight = a.class_weight->to(sums.dtype().toScalarType()).contiguous();
  }
  TORCH_CHECK_VALUE(a.label_smoothing >= 0 && a.label_smoothing <= 1, "label_smoothing is ", a.label_smoothing,
                    ", expected 0 <= label_smoothing <= 1");
  TORCH_CHECK_VALUE(a.z_loss >= 0, "z_loss is ", a.z_loss, ", expected z_loss >= 0");
  TORCH_CHECK_VALUE(a.softcap >= 0, "softcap is ", a.softcap, ", expected softcap > 0, or 0 for none");
  TORCH_CHECK_VALUE(a.temperature > 0, "temperature is ", a.temperature, ", expected temperature > 0");
  TORCH_CHECK_VALUE(!shard || (a.first_class >= 0 && a.first_class + classes <= a.all_classes), "first_class is ", a.first_class,
                    " of ", a.all_classes, " classes, expected a shard of ", classes, " within them");
  TORCH_CHECK_VALUE(!shard || !soft, "target holds probabilities, expected class indices where the vocabulary is split");
}

namespace {

Tensor checked(const Tensor& given, const char* name, at::IntArrayRef expected, const at::TensorOptions& sums) {
  TORCH_CHECK_TYPE(given.dtype() == sums.dtype(), name, " has dtype ", given.dtype(), ", expected ", sums.dtype());
  check_shape(given, name, expected, "(numbers, R)");
  TORCH_CHECK_VALUE(given.device() == sums.device(), name, " is on ", given.device(), ", expected ", sums.device());
  return given.contiguous();
}

}  // namespace

Tensor SoftmaxProblem::checked_numbers(const Tensor& numbers) const {
  return checked(numbers, "numbers", {math::kRowNumbers, rows}, sums);
}
Tensor SoftmaxProblem::checked_d_numbers(const Tensor& d_numbers) const {
  return checked(d_numbers, "d_numbers", {math::kRowGradients, rows}, sums);
}

}  // namespace seqkern::ops
