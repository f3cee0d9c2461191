// The softmax-loss ops: schemas, and the CPU implementation. The autograd formulas are in seqkern/functional/softmax.py.
#include "ops/softmax.h"

#include <ATen/Parallel.h>
#include <ATen/ops/mul.h>
#include <torch/library.h>

#include "cpu/kernels.h"
#include "ops/cpu_dtype.h"
#include "ops/cpu_tensor.h"

namespace seqkern::ops {

namespace {

// For so many logits; few of them are done before other threads have begun.
int threads_for(int64_t logits) {
  constexpr int64_t kFew = 1 << 14;
  return logits < kFew || at::in_parallel_region() ? 1 : at::get_num_threads();
}

void check_targets(const SoftmaxProblem& problem) {
  if (problem.soft) return;
  const SoftmaxArguments& a = problem.arguments;
  const int64_t classes = a.all_classes ? a.all_classes : problem.classes;
  const int64_t* const targets = problem.target.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < problem.rows; ++r)
    TORCH_CHECK_INDEX((targets[r] >= 0 && targets[r] < classes) || targets[r] == a.ignore_index, "target holds ", targets[r],
                      " at position ", r, ", expected 0 <= target < V = ", classes, " or ignore_index = ", a.ignore_index);
}

// A result of this size; empty if it is not wanted.
Tensor result(bool wanted, at::IntArrayRef sizes, const at::TensorOptions& options) {
  return wanted ? new_tensor(sizes, options) : at::empty({0}, options);
}

// What softmax_loss and linear_softmax_loss fill in alike.
template <class T, class Params>
Params common_params(const SoftmaxProblem& problem, Reduction reduction, bool statistics) {
  Params p{};
  p.rows = problem.rows;
  p.classes = problem.classes;
  p.threads = threads_for(problem.rows * problem.classes);
  p.statistics = statistics;
  p.reduction = reduction;
  p.target = problem.kernel_target<T>(elements);
  return p;
}

SoftmaxLossResult softmax_loss_cpu(const Tensor& logits, SEQKERN_SOFTMAX_ARGUMENTS, int64_t reduction, bool statistics,
                                   bool with_gradient) {
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, logits, "logits", check_logits(logits));
  const Reduction kind = checked_reduction(reduction);
  check_targets(problem);
  const Tensor x = logits.contiguous(), numbers = problem.new_numbers(), ranks = problem.new_ranks(statistics),
               reduced = problem.new_scalar(), denominator = problem.new_scalar();
  const Tensor d_logits = result(with_gradient, x.sizes(), x.options());
  for_cpu_dtype(x.scalar_type(), "logits", [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    auto p = common_params<T, SoftmaxParams<T>>(problem, kind, statistics);
    p.logits = elements(x, T());
    p.numbers = elements(numbers, S());
    p.ranks = elements(ranks, int64_t());
    p.denominator = elements(denominator, S());
    p.loss = elements(reduced, S());
    p.d_logits = with_gradient ? elements(d_logits, T()) : nullptr;
    cpu::kernels<T>().softmax_loss(p);
  });
  return {problem.loss(numbers, reduced, kind), numbers, ranks, denominator, d_logits};
}

Tensor softmax_loss_backward_cpu(const Tensor& logits, SEQKERN_SOFTMAX_ARGUMENTS, const Tensor& numbers,
                                 const Tensor& d_numbers) {
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, logits, "logits", check_logits(logits));
  check_targets(problem);
  const Tensor x = logits.contiguous(), known = problem.checked_numbers(numbers), d = problem.checked_d_numbers(d_numbers);
  const Tensor d_logits = result(true, x.sizes(), x.options());
  for_cpu_dtype(x.scalar_type(), "logits", [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    auto p = common_params<T, SoftmaxParams<T>>(problem, Reduction::none, false);
    p.logits = elements(x, T());
    p.numbers = elements(known, S());
    p.d_numbers = elements(d, S());
    p.d_logits = elements(d_logits, T());
    cpu::kernels<T>().softmax_loss(p);
  });
  return d_logits;
}

// The parts of both linear ops that are the same. Fields of the results are left to `more`.
template <class More>
LinearGradients run_linear(const SoftmaxProblem& problem, const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias,
                           Reduction reduction, bool statistics, const Wanted& wanted, int64_t workspace, const More& more) {
  TORCH_CHECK_VALUE(workspace > 0, "workspace is ", workspace, ", expected a number of bytes > 0");
  const Tensor h = hidden.contiguous(), w = weight.contiguous(), b = bias ? bias->contiguous() : Tensor();
  const Tensor d_hidden = result(wanted[0], h.sizes(), h.options()), d_weight = result(wanted[1], w.sizes(), problem.sums),
               d_bias = result(wanted[2], {problem.classes}, problem.sums);
  for_cpu_dtype(h.scalar_type(), "hidden", [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    auto p = common_params<T, LinearSoftmaxParams<T>>(problem, reduction, statistics);
    p.features = h.size(-1);
    p.workspace = workspace;
    p.hidden = elements(h, T());
    p.weight = elements(w, T());
    p.bias = elements(b, T());
    p.d_hidden = wanted[0] ? elements(d_hidden, T()) : nullptr;
    p.d_weight = wanted[1] ? elements(d_weight, S()) : nullptr;
    p.d_bias = wanted[2] ? elements(d_bias, S()) : nullptr;
    more(p, S());
    cpu::kernels<T>().linear_softmax_loss(p);
  });
  const auto type = h.scalar_type();
  return {d_hidden, d_weight.to(type), d_bias.to(type)};
}

LinearSoftmaxLossResult linear_softmax_loss_cpu(const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias,
                                                SEQKERN_SOFTMAX_ARGUMENTS, int64_t reduction, bool statistics, Wanted wanted,
                                                int64_t workspace) {
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, hidden, "hidden", check_linear(hidden, weight, bias));
  const Reduction kind = checked_reduction(reduction);
  check_targets(problem);
  const Tensor numbers = problem.new_numbers(), ranks = problem.new_ranks(statistics), reduced = problem.new_scalar(),
               denominator = problem.new_scalar();
  const auto [d_hidden, d_weight, d_bias] =
      run_linear(problem, hidden, weight, bias, kind, statistics, wanted, workspace, [&](auto& p, auto sum) {
        p.numbers = elements(numbers, sum);
        p.ranks = elements(ranks, int64_t());
        p.denominator = elements(denominator, sum);
        p.loss = elements(reduced, sum);
      });
  return {problem.loss(numbers, reduced, kind), numbers, ranks, denominator, d_hidden, d_weight, d_bias};
}

LinearGradients linear_softmax_loss_backward_cpu(const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias,
                                                 SEQKERN_SOFTMAX_ARGUMENTS, const Tensor& numbers, const Tensor& d_numbers,
                                                 Wanted wanted, int64_t workspace) {
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, hidden, "hidden", check_linear(hidden, weight, bias));
  check_targets(problem);
  const Tensor known = problem.checked_numbers(numbers), d = problem.checked_d_numbers(d_numbers);
  return run_linear(problem, hidden, weight, bias, Reduction::none, false, wanted, workspace, [&](auto& p, auto sum) {
    p.numbers = elements(known, sum);
    p.d_numbers = elements(d, sum);
  });
}

void scale_cpu(const Tensor& tensor, const Tensor& by) {
  check_scale(tensor, by);
  Tensor scaled = tensor;
  if (by.item<double>() != 1) at::mul_out(scaled, tensor, by);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def("softmax_loss(Tensor logits, " SEQKERN_SOFTMAX_SCHEMA
        ", int reduction, bool statistics, bool with_gradient) "
        "-> (Tensor loss, Tensor numbers, Tensor ranks, Tensor denominator, Tensor d_logits)",
        tags);
  m.def("softmax_loss_backward(Tensor logits, " SEQKERN_SOFTMAX_SCHEMA ", Tensor numbers, Tensor d_numbers) -> Tensor d_logits",
        tags);
  m.def("scale_(Tensor(a!) tensor, Tensor by) -> ()", tags);  // the usual factor, 1, costs nothing
  m.def("linear_softmax_loss(Tensor hidden, Tensor weight, Tensor? bias, " SEQKERN_SOFTMAX_SCHEMA
        ", int reduction, bool statistics, bool[3] wanted, int workspace) "
        "-> (Tensor loss, Tensor numbers, Tensor ranks, Tensor denominator, Tensor d_hidden, Tensor d_weight, Tensor d_bias)",
        tags);
  m.def("linear_softmax_loss_backward(Tensor hidden, Tensor weight, Tensor? bias, " SEQKERN_SOFTMAX_SCHEMA
        ", Tensor numbers, Tensor d_numbers, bool[3] wanted, int workspace) "
        "-> (Tensor d_hidden, Tensor d_weight, Tensor d_bias)",
        tags);
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) {
  m.impl("scale_", scale_cpu);
  m.impl("softmax_loss", softmax_loss_cpu);
  m.impl("softmax_loss_backward", softmax_loss_backward_cpu);
  m.impl("linear_softmax_loss", linear_softmax_loss_cpu);
  m.impl("linear_softmax_loss_backward", linear_softmax_loss_backward_cpu);
}

}  // namespace seqkern::ops
