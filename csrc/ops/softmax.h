// What the CPU and the CUDA implementations of the softmax-loss ops share: their arguments, checked, as the kernels take them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <array>
#include <optional>
#include <vector>

#include "ops/checks.h"
#include "params/softmax.h"

namespace seqkern::ops {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

// The arguments of every softmax-loss op, as its schema has them.
struct SoftmaxArguments {
  Tensor target;             // [...] int64, or [..., V] floating-point
  MaybeTensor class_weight;  // [V]
  int64_t ignore_index;
  double label_smoothing, z_loss, softcap, temperature;
  int64_t first_class, all_classes;  // all_classes 0: V
};
#define SEQKERN_SOFTMAX_SCHEMA                                                                                  \
  "Tensor target, Tensor? class_weight, int ignore_index, float label_smoothing, float z_loss, float softcap, " \
  "float temperature, int first_class, int all_classes"
#define SEQKERN_SOFTMAX_ARGUMENTS                                                                                     \
  const Tensor &target, const MaybeTensor &class_weight, int64_t ignore_index, double label_smoothing, double z_loss, \
      double softcap, double temperature, int64_t first_class, int64_t all_classes
#define SEQKERN_PASS_SOFTMAX_ARGUMENTS \
  {target, class_weight, ignore_index, label_smoothing, z_loss, softcap, temperature, first_class, all_classes}

// Arguments of an op, checked. Tensors are contiguous.
struct SoftmaxProblem {
  SoftmaxArguments arguments;
  int64_t rows, classes;
  std::vector<int64_t> row_sizes;  // of the dimensions that rows stand for
  bool soft;                       // whether targets are probabilities
  Tensor target, class_weight;     // of the dtypes of `like` and of sums; class_weight undefined if there is none
  at::TensorOptions sums;          // of results in the dtype of sums

  // like: logits [..., V] or hidden [..., H], called `name`.
  SoftmaxProblem(const SoftmaxArguments& arguments, const Tensor& like, const char* name, int64_t classes);

  Tensor new_numbers() const { return at::empty({math::kRowNumbers, rows}, sums); }
  Tensor new_ranks(bool statistics) const { return at::empty({2, statistics ? rows : 0}, sums.dtype(at::kLong)); }
  Tensor new_scalar() const { return at::empty({}, sums); }

  // What backward is given, contiguous.
  Tensor checked_numbers(const Tensor& numbers) const;
  Tensor checked_d_numbers(const Tensor& d_numbers) const;

  // The op's first output.
  Tensor loss(const Tensor& numbers, const Tensor& reduced, Reduction reduction) const {
    return reduction == Reduction::none ? numbers.select(0, math::kRowLoss).clone().view(row_sizes) : reduced;
  }

  // As kernels take it; pointer(tensor, T()) yields the elements, null for an undefined tensor.
  template <class T, class Pointer>
  SoftmaxTarget<T> kernel_target(const Pointer& pointer) const {
    using S = math::Sum<T>;
    const SoftmaxArguments& a = arguments;
    SoftmaxTarget<T> t{};
    if (soft)
      t.probabilities = pointer(target, T());
    else
      t.target = pointer(target, int64_t());
    t.class_weight = pointer(class_weight, S());
    t.ignore_index = a.ignore_index;
    t.first_class = a.first_class;
    t.all_classes = a.all_classes ? a.all_classes : classes;
    t.options = {static_cast<S>(a.label_smoothing), static_cast<S>(a.z_loss), static_cast<S>(a.softcap),
                 static_cast<S>(1 / a.temperature)};
    return t;
  }
};

Reduction checked_reduction(int64_t reduction);

// The dtype of sums and of losses.
inline at::ScalarType softmax_sum_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

// A gradient, contiguous, and the scalar that scales it.
void check_scale(const Tensor& tensor, const Tensor& by);

// logits of the ops on logits; the number of classes.
int64_t check_logits(const Tensor& logits);
// hidden, weight and bias of the ops on hidden states; the number of classes.
int64_t check_linear(const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias);

// loss, numbers, ranks, denominator, d_logits
using SoftmaxLossResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
// loss, numbers, ranks, denominator, d_hidden, d_weight, d_bias; gradients that are not wanted are empty
using LinearSoftmaxLossResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using LinearGradients = std::tuple<Tensor, Tensor, Tensor>;
using Wanted = std::array<bool, 3>;  // of hidden, weight, bias

}  // namespace seqkern::ops
