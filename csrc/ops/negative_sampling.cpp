// The ops of negative sampling: schemas, and the CPU implementation. The autograd formulas are in
// seqkern/functional/negative_sampling.py.
#include "ops/negative_sampling.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "cpu/kernels.h"
#include "ops/cpu_dtype.h"
#include "ops/cpu_tensor.h"
#include "ops/softmax.h"

namespace seqkern::ops {

namespace {

// Ids [..., K] in [0, size), or `padding`, if that is not null.
void check_range(const Tensor& ids, const char* name, int64_t size, const char* letter, const int64_t* padding = nullptr) {
  const int64_t* const id = ids.const_data_ptr<int64_t>();
  const auto inside = [size](int64_t i) { return static_cast<uint64_t>(i) < static_cast<uint64_t>(size); };
  bool all = true;
  if (padding)
    for (int64_t i = 0, count = ids.numel(), other = *padding; i < count; ++i) all &= inside(id[i]) | (id[i] == other);
  else
    for (int64_t i = 0, count = ids.numel(); i < count; ++i) all &= inside(id[i]);
  if (all) return;
  int64_t at = 0;
  while (inside(id[at]) || (padding && id[at] == *padding)) ++at;
  if (padding)
    TORCH_CHECK_INDEX(false, name, " holds ", id[at], " at position ", at, ", expected 0 <= id < ", letter, " = ", size,
                      " or padding_idx = ", *padding);
  TORCH_CHECK_INDEX(false, name, " holds ", id[at], " at position ", at, ", expected 0 <= id < ", letter, " = ", size);
}

// The gradient of a matrix (rows, D), of which `uses` rows are used.
MatrixGradient new_gradient(bool wanted, bool sparse, const Tensor& matrix, int64_t uses) {
  const auto ids = matrix.options().dtype(at::kLong);
  if (!wanted) return {new_tensor({0}, matrix.options()), new_tensor({0}, ids)};
  if (!sparse) return {new_tensor(matrix.sizes(), matrix.options()), new_tensor({0}, ids)};
  return {new_tensor({uses, matrix.size(1)}, matrix.options()), new_tensor({1, uses}, ids)};
}

template <class T>
RowsGradient<T> rows_gradient(bool wanted, bool sparse, const MatrixGradient& gradient) {
  if (!wanted) return {};
  const auto& [values, rows] = gradient;
  return {elements(values, T()), sparse ? elements(rows, int64_t()) : nullptr, 0};
}

// The first context that is there; 0 if none is.
int64_t spare_row(const SamplingProblem& problem) {
  const int64_t* const id = problem.contexts.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < problem.context_uses(); ++i)
    if (id[i] != problem.padding) return id[i];
  return 0;
}

// A thread for so many elements that are multiplied or filled: fewer are done before another has begun.
int threads_for(const SamplingProblem& problem, int64_t filled) {
  constexpr int64_t kFew = 1 << 16;
  const int64_t multiplied = (problem.uses() + problem.context_uses()) * problem.features;
  return multiplied + filled / 8 < kFew || at::in_parallel_region() ? 1 : at::get_num_threads();
}

// Runs the kernel and returns the gradients. `more` sets the fields of the op.
template <class More>
SamplingGradients run(const SamplingProblem& problem, const WantedGradients& wanted, bool sparse, const More& more) {
  const bool contexts = problem.contexts.defined();
  const MatrixGradient d_source = new_gradient(wanted[0], sparse && contexts, problem.source(), problem.context_uses()),
                       d_weight = new_gradient(wanted[1], sparse, problem.weight, problem.uses());
  for_cpu_dtype(problem.weight.scalar_type(), problem.embedding.defined() ? "embedding" : "hidden", [&](auto tag) {
    using T = decltype(tag);
    auto p = problem.kernel_params<T>(elements);
    p.threads = threads_for(problem, sparse ? 0 : std::get<0>(d_source).numel() + std::get<0>(d_weight).numel());
    p.d_weight = rows_gradient<T>(wanted[1], sparse, d_weight);
    if (contexts) {
      p.d_embedding = rows_gradient<T>(wanted[0], sparse, d_source);
      if (p.d_embedding.rows) p.d_embedding.spare = spare_row(problem);
    } else if (wanted[0]) {
      p.d_hidden = elements(std::get<0>(d_source), T());
    }
    more(p);
    cpu::kernels<T>().negative_sampling(p);
  });
  return {std::get<0>(d_source), std::get<1>(d_source), std::get<0>(d_weight), std::get<1>(d_weight)};
}

Tensor embedding_dot_cpu(const Tensor& hidden, const Tensor& weight, const Tensor& ids) {
  const SamplingProblem problem(hidden, weight, ids);
  check_range(problem.others, "ids", problem.size, "V");
  const Tensor scores = new_tensor(ids.sizes(), problem.hidden.options());
  run(problem, {}, false, [&](auto& p) { p.scores = elements(scores, std::decay_t<decltype(*p.scores)>()); });
  return scores;
}

DotGradients embedding_dot_backward_cpu(const Tensor& d_scores, const Tensor& hidden, const Tensor& weight, const Tensor& ids,
                                        WantedGradients wanted, bool sparse) {
  const SamplingProblem problem(hidden, weight, ids);
  check_range(problem.others, "ids", problem.size, "V");
  const Tensor d = problem.checked_gradient(d_scores, "d_scores", problem.hidden.scalar_type(), ids.sizes());
  const auto [d_hidden, none, d_weight, rows] =
      run(problem, wanted, sparse, [&](auto& p) { p.d_scores = elements(d, std::decay_t<decltype(*p.d_scores)>()); });
  return {d_hidden, d_weight, rows};
}

void check_all_ranges(const SamplingProblem& problem) {
  check_range(problem.target, "target", problem.size, "V");
  check_range(problem.others, "negatives", problem.size, "V");
  if (problem.contexts.defined()) check_range(problem.contexts, "contexts", problem.embedding_size, "E", &problem.padding);
}

SamplingLossResult negative_sampling_loss_cpu(const Tensor& source, const Tensor& weight, const MaybeTensor& contexts,
                                              int64_t padding_idx, const Tensor& target, const Tensor& negatives,
                                              int64_t reduction, WantedGradients wanted, bool sparse) {
  const SamplingProblem problem(source, weight, contexts, padding_idx, target, negatives);
  const Reduction kind = checked_reduction(reduction);
  check_all_ranges(problem);
  const Tensor losses = new_tensor({problem.examples}, problem.sums),
               reduced = kind == Reduction::none ? losses : new_tensor({}, problem.sums);
  const auto [d_source, source_rows, d_weight, weight_rows] = run(problem, wanted, sparse, [&](auto& p) {
    using S = std::decay_t<decltype(*p.losses)>;
    p.reduction = kind;
    p.losses = elements(losses, S());
    p.loss = kind == Reduction::none ? nullptr : elements(reduced, S());
  });
  return {reduced, d_source, source_rows, d_weight, weight_rows};
}

SamplingGradients negative_sampling_loss_backward_cpu(const Tensor& source, const Tensor& weight, const MaybeTensor& contexts,
                                                      int64_t padding_idx, const Tensor& target, const Tensor& negatives,
                                                      const Tensor& d_losses, WantedGradients wanted, bool sparse) {
  const SamplingProblem problem(source, weight, contexts, padding_idx, target, negatives);
  check_all_ranges(problem);
  const Tensor d = problem.checked_gradient(d_losses, "d_losses", problem.sums.dtype().toScalarType(), {problem.examples});
  return run(problem, wanted, sparse, [&](auto& p) { p.d_losses = elements(d, std::decay_t<decltype(*p.d_losses)>()); });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def("embedding_dot(Tensor hidden, Tensor weight, Tensor ids) -> Tensor scores", tags);
  m.def(
      "embedding_dot_backward(Tensor d_scores, Tensor hidden, Tensor weight, Tensor ids, bool[2] wanted, bool sparse) "
      "-> (Tensor d_hidden, Tensor d_weight, Tensor rows)",
      tags);
#define SEQKERN_SAMPLING_SCHEMA "Tensor source, Tensor weight, Tensor? contexts, int padding_idx, Tensor target, Tensor negatives"
#define SEQKERN_SAMPLING_GRADIENTS "Tensor d_source, Tensor source_rows, Tensor d_weight, Tensor weight_rows"
  m.def("negative_sampling_loss(" SEQKERN_SAMPLING_SCHEMA
        ", int reduction, bool[2] wanted, bool sparse) -> (Tensor loss, " SEQKERN_SAMPLING_GRADIENTS ")",
        tags);
  m.def("negative_sampling_loss_backward(" SEQKERN_SAMPLING_SCHEMA
        ", Tensor d_losses, bool[2] wanted, bool sparse) -> (" SEQKERN_SAMPLING_GRADIENTS ")",
        tags);
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) {
  m.impl("embedding_dot", embedding_dot_cpu);
  m.impl("embedding_dot_backward", embedding_dot_backward_cpu);
  m.impl("negative_sampling_loss", negative_sampling_loss_cpu);
  m.impl("negative_sampling_loss_backward", negative_sampling_loss_backward_cpu);
}

}  // namespace seqkern::ops
