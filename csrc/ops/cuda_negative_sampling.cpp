// The ops of negative sampling on CUDA. Schemas are in ops/negative_sampling.cpp, checks in ops/negative_sampling_checks.cpp,
// kernels in cuda/negative_sampling.cu.
//
// Words cannot be looked at here without waiting for the device: one out of range makes its example's loss NaN, and adds nothing
// to the gradients of matrices. The uses of a dense gradient's rows are sorted by ATen, so that the sums have a fixed order.
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "cuda/negative_sampling.h"
#include "ops/cuda_dispatch.h"
#include "ops/negative_sampling.h"
#include "ops/softmax.h"

namespace seqkern::ops {
namespace {

// The elements of a tensor: null if it is undefined, which stands for an absent one, and not if it has none.
struct ElementsOf {
  template <class T>
  T* operator()(const Tensor& tensor, T) const {
    static T none{};
    return tensor.defined() && tensor.numel() == 0 ? &none : output_pointer<T>(tensor);
  }
};
constexpr ElementsOf elements;

// The gradient of a matrix (rows, D), of which `uses` rows are used; and what its kernels need besides.
struct Gradient {
  bool wanted, sparse;
  Tensor values, rows;  // results
  Tensor uses;          // of a dense one: the row of each use

  Gradient(bool wanted, bool sparse, const Tensor& matrix, int64_t count) : wanted(wanted), sparse(sparse) {
    const auto ids = matrix.options().dtype(at::kLong);
    rows = at::empty({0}, ids);
    if (!wanted) {
      values = at::empty({0}, matrix.options());
    } else if (sparse) {
      values = at::empty({count, matrix.size(1)}, matrix.options());
      rows = at::empty({1, count}, ids);
    } else {
      values = at::zeros(matrix.sizes(), matrix.options());
      uses = at::empty({count}, ids);
    }
  }

  template <class T>
  RowsGradient<T> of_uses() const {
    if (!wanted || !sparse) return {};
    return {elements(values, T()), elements(rows, int64_t()), 0};
  }
};

// Some id of the embedding that is there, for padding; 0 if there is none. [1]
Tensor spare_row(const SamplingProblem& problem) {
  const Tensor& ids = problem.contexts;
  if (ids.numel() == 0) return at::zeros({1}, ids.options());
  const Tensor there = ids.ne(problem.padding).logical_and_(ids.ge(0)).logical_and_(ids.lt(problem.embedding_size));
  return at::where(there, ids, at::zeros({}, ids.options())).amax().view(1);
}

// Adds up a dense gradient. factors and rows: of all uses.
template <class T>
void add_up(const Gradient& gradient, const SamplingProblem& problem, int64_t each, bool factor_each, const Tensor& factors,
            const Tensor& from, const Tensor& sums, const CudaScope& scope) {
  const auto [sorted, order] = at::sort(gradient.uses, /*stable=*/true, 0, false);
  cuda::AddRowsParams<T> p{};
  p.uses = gradient.uses.numel();
  p.features = problem.features;
  p.size = gradient.values.size(0);
  p.each = each;
  p.factor_each = factor_each;
  p.rows = elements(sorted, int64_t());
  p.order = elements(order, int64_t());
  p.factors = elements(factors, math::Sum<T>());
  p.from = elements(from, T());
  p.sums = elements(sums, math::Sum<T>());
  p.to = elements(gradient.values, T());
  C10_CUDA_CHECK(cuda::launch_add_rows(p, scope.stream()));
}

// Runs the kernels and returns the gradients. `more` sets the fields of the op.
template <class More>
SamplingGradients run(const SamplingProblem& problem, const WantedGradients& wanted, bool sparse, const CudaScope& scope,
                      const More& more) {
  const bool contexts = problem.contexts.defined(), gradients = wanted[0] || wanted[1];
  const Gradient d_weight(wanted[1], sparse, problem.weight, problem.uses());
  const Gradient d_embedding(wanted[0] && contexts, sparse, problem.source(), problem.context_uses());
  const Tensor d_hidden =
      at::empty(wanted[0] && !contexts ? problem.hidden.sizes() : at::IntArrayRef{0}, problem.weight.options());
  const auto scratch = [&](bool needed, at::IntArrayRef sizes) { return needed ? at::empty(sizes, problem.sums) : Tensor(); };
  const int64_t B = problem.examples, D = problem.features;
  const Tensor word_losses = scratch(true, {B, problem.each}), slopes = scratch(true, {B, problem.each}),
               means = scratch(contexts, {B, D}), shares = scratch(contexts, {B}), d_means = scratch(d_embedding.wanted, {B, D}),
               spare = d_embedding.wanted && sparse ? spare_row(problem) : Tensor();
  for_dtype(problem.weight.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    auto p = problem.kernel_params<T>(elements);
    p.d_weight = d_weight.template of_uses<T>();
    p.d_embedding = d_embedding.template of_uses<T>();
    p.d_hidden = wanted[0] && !contexts ? elements(d_hidden, T()) : nullptr;
    more(p);
    cuda::NegativeSamplingMemory<T> memory{};
    memory.word_losses = elements(word_losses, S());
    memory.slopes = elements(slopes, S());
    memory.means = elements(means, S());
    memory.shares = elements(shares, S());
    memory.d_means = elements(d_means, S());
    memory.word_rows = elements(d_weight.uses, int64_t());
    memory.context_rows = elements(d_embedding.uses, int64_t());
    memory.spare = elements(spare, int64_t());
    C10_CUDA_CHECK(cuda::launch_sampling_examples(p, memory, scope.stream()));
    if (p.loss) C10_CUDA_CHECK(cuda::launch_sampling_losses(p, scope.stream()));
    if (d_weight.wanted && !sparse) add_up<T>(d_weight, problem, problem.each, true, slopes, problem.hidden, means, scope);
    if (d_embedding.wanted && !sparse)
      add_up<T>(d_embedding, problem, problem.context_count, false, shares, Tensor(), d_means, scope);
  });
  const bool any = gradients && contexts;
  return {any ? d_embedding.values : d_hidden, d_embedding.rows, d_weight.values, d_weight.rows};
}

Tensor embedding_dot_cuda(const Tensor& hidden, const Tensor& weight, const Tensor& ids) {
  const SamplingProblem problem(hidden, weight, ids);
  check_cuda_dtype(hidden, "hidden");
  const CudaScope scope(hidden);
  const Tensor scores = at::empty(ids.sizes(), problem.hidden.options());
  run(problem, {}, false, scope, [&](auto& p) { p.scores = elements(scores, std::decay_t<decltype(*p.scores)>()); });
  return scores;
}

DotGradients embedding_dot_backward_cuda(const Tensor& d_scores, const Tensor& hidden, const Tensor& weight, const Tensor& ids,
                                         WantedGradients wanted, bool sparse) {
  const SamplingProblem problem(hidden, weight, ids);
  check_cuda_dtype(hidden, "hidden");
  const CudaScope scope(hidden);
  const Tensor d = problem.checked_gradient(d_scores, "d_scores", problem.hidden.scalar_type(), ids.sizes());
  const auto [d_hidden, none, d_weight, rows] =
      run(problem, wanted, sparse, scope, [&](auto& p) { p.d_scores = elements(d, std::decay_t<decltype(*p.d_scores)>()); });
  return {d_hidden, d_weight, rows};
}

SamplingLossResult negative_sampling_loss_cuda(const Tensor& source, const Tensor& weight, const MaybeTensor& contexts,
                                               int64_t padding_idx, const Tensor& target, const Tensor& negatives,
                                               int64_t reduction, WantedGradients wanted, bool sparse) {
  const SamplingProblem problem(source, weight, contexts, padding_idx, target, negatives);
  check_cuda_dtype(source, contexts ? "embedding" : "hidden");
  const CudaScope scope(source);
  const Reduction kind = checked_reduction(reduction);
  const Tensor losses = at::empty({problem.examples}, problem.sums),
               reduced = kind == Reduction::none ? losses : at::empty({}, problem.sums);
  const auto [d_source, source_rows, d_weight, weight_rows] = run(problem, wanted, sparse, scope, [&](auto& p) {
    using S = std::decay_t<decltype(*p.losses)>;
    p.reduction = kind;
    p.losses = elements(losses, S());
    p.loss = kind == Reduction::none ? nullptr : elements(reduced, S());
  });
  return {reduced, d_source, source_rows, d_weight, weight_rows};
}

SamplingGradients negative_sampling_loss_backward_cuda(const Tensor& source, const Tensor& weight, const MaybeTensor& contexts,
                                                       int64_t padding_idx, const Tensor& target, const Tensor& negatives,
                                                       const Tensor& d_losses, WantedGradients wanted, bool sparse) {
  const SamplingProblem problem(source, weight, contexts, padding_idx, target, negatives);
  check_cuda_dtype(source, contexts ? "embedding" : "hidden");
  const CudaScope scope(source);
  const Tensor d = problem.checked_gradient(d_losses, "d_losses", problem.sums.dtype().toScalarType(), {problem.examples});
  return run(problem, wanted, sparse, scope, [&](auto& p) { p.d_losses = elements(d, std::decay_t<decltype(*p.d_losses)>()); });
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) {
  m.impl("embedding_dot", embedding_dot_cuda);
  m.impl("embedding_dot_backward", embedding_dot_backward_cuda);
  m.impl("negative_sampling_loss", negative_sampling_loss_cuda);
  m.impl("negative_sampling_loss_backward", negative_sampling_loss_backward_cuda);
}

}  // namespace seqkern::ops
