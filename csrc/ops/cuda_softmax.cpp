// The softmax-loss ops on CUDA. Schemas are in ops/softmax.cpp, checks in ops/softmax_checks.cpp, kernels in cuda/softmax.cu.
//
// Targets cannot be looked at here without waiting for the device: one out of range makes the loss and its row's gradient NaN.
//
// The linear ops compute the logits of some rows at a time, in the dtype of the tensors, as torch would hold all of them; a
// kernel turns them into their gradient where they are, and the products with that are taken before the next rows' logits take
// the place.
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>

#include "cuda/softmax.h"
#include "ops/cuda_dispatch.h"
#include "ops/cuda_recurrent.h"
#include "ops/softmax.h"

namespace seqkern::ops {
namespace {

struct InputPointer {
  template <class T>
  const T* operator()(const Tensor& tensor, T) const {
    return input_pointer<T>(tensor);
  }
};

// A result of this size; empty if it is not wanted.
Tensor result(bool wanted, at::IntArrayRef sizes, const at::TensorOptions& options) {
  return wanted ? at::empty(sizes, options) : at::empty({0}, options);
}

// What a loss yields besides gradients.
struct Outputs {
  Reduction reduction;
  bool statistics;
  Tensor numbers, ranks, reduced, denominator;

  Outputs(const SoftmaxProblem& problem, Reduction reduction, bool statistics)
      : reduction(reduction),
        statistics(statistics),
        numbers(problem.new_numbers()),
        ranks(problem.new_ranks(statistics)),
        reduced(problem.new_scalar()),
        denominator(problem.new_scalar()) {}

  template <class T>
  void set(SoftmaxParams<T>& p) const {
    using S = math::Sum<T>;
    p.reduction = reduction;
    p.statistics = statistics;
    p.numbers = output_pointer<S>(numbers);
    p.ranks = output_pointer<int64_t>(ranks);
    p.denominator = output_pointer<S>(denominator);
    p.loss = output_pointer<S>(reduced);
  }
};

// What backward begins from.
struct Known {
  Tensor numbers, d_numbers;

  template <class T>
  void set(SoftmaxParams<T>& p) const {
    using S = math::Sum<T>;
    // The kernels do not write what they know.
    p.numbers = const_cast<S*>(input_pointer<S>(numbers));
    p.d_numbers = input_pointer<S>(d_numbers);
  }
};

// The parameters of all rows, but for logits and d_logits. Context: Outputs or Known.
template <class T, class Context>
SoftmaxParams<T> parameters(const SoftmaxProblem& problem, const Context& context) {
  SoftmaxParams<T> p{};
  p.rows = p.stride = problem.rows;
  p.classes = problem.classes;
  p.target = problem.kernel_target<T>(InputPointer());
  context.set(p);
  return p;
}

SoftmaxLossResult softmax_loss_cuda(const Tensor& logits, SEQKERN_SOFTMAX_ARGUMENTS, int64_t reduction, bool statistics,
                                    bool with_gradient) {
  const int64_t classes = check_logits(logits);
  check_cuda_dtype(logits, "logits");
  const CudaScope scope(logits);
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, logits, "logits", classes);
  const Outputs outputs(problem, checked_reduction(reduction), statistics);
  const Tensor x = logits.contiguous(), d_logits = result(with_gradient, x.sizes(), x.options());
  for_dtype(x.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    auto p = parameters<T>(problem, outputs);
    p.logits = input_pointer<T>(x);
    p.d_logits = with_gradient ? output_pointer<T>(d_logits) : nullptr;
    C10_CUDA_CHECK(cuda::launch_softmax_denominator(p, scope.stream()));
    C10_CUDA_CHECK(cuda::launch_softmax_rows(p, scope.stream()));
    C10_CUDA_CHECK(cuda::launch_softmax_loss(p, scope.stream()));
  });
  return {problem.loss(outputs.numbers, outputs.reduced, outputs.reduction), outputs.numbers, outputs.ranks, outputs.denominator,
          d_logits};
}

Tensor softmax_loss_backward_cuda(const Tensor& logits, SEQKERN_SOFTMAX_ARGUMENTS, const Tensor& numbers,
                                  const Tensor& d_numbers) {
  const int64_t classes = check_logits(logits);
  check_cuda_dtype(logits, "logits");
  const CudaScope scope(logits);
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, logits, "logits", classes);
  const Known known{problem.checked_numbers(numbers), problem.checked_d_numbers(d_numbers)};
  const Tensor x = logits.contiguous(), d_logits = at::empty(x.sizes(), x.options());
  if (problem.rows == 0) return d_logits;  // pointers to nothing are null, which stands for forward
  for_dtype(x.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    auto p = parameters<T>(problem, known);
    p.logits = input_pointer<T>(x);
    p.d_logits = output_pointer<T>(d_logits);
    C10_CUDA_CHECK(cuda::launch_softmax_rows(p, scope.stream()));
  });
  return d_logits;
}

constexpr int64_t kSumBytes = int64_t{32} << 20;

// Adds a b to `sum`, of the dtype of a and b, or float32 for half types: these some rows at a time, since not every torch has
// products that add to float32.
void add_product(Tensor& sum, const Tensor& a, const Tensor& b) {
  if (sum.scalar_type() == a.scalar_type()) {
    at::addmm_out(sum, sum, a, b);
    return;
  }
  const int64_t row_bytes = std::max<int64_t>(1, sum.size(1) * static_cast<int64_t>(sum.dtype().itemsize()));
  const int64_t rows = std::min(std::max<int64_t>(1, kSumBytes / row_bytes), sum.size(0));
  const Tensor memory = at::empty({rows, sum.size(1)}, sum.options());
  for (int64_t first = 0; first < sum.size(0); first += rows) {
    const int64_t count = std::min(rows, sum.size(0) - first);
    const Tensor more = memory.narrow(0, 0, count);
    product(more, a.narrow(0, first, count), b);
    sum.narrow(0, first, count).add_(more);
  }
}

// Hidden states, weights and bias, and the gradients that are wanted of them.
class Linear {
 public:
  Linear(const SoftmaxProblem& problem, const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias, const Wanted& wanted,
         int64_t workspace)
      : problem_(problem),
        wanted_(wanted),
        weight_(weight.contiguous()),
        bias_(bias ? bias->contiguous() : Tensor()),
        hidden_(hidden.reshape({problem.rows, hidden.size(-1)}).contiguous()) {
    TORCH_CHECK_VALUE(workspace > 0, "workspace is ", workspace, ", expected a number of bytes > 0");
    const int64_t row_bytes = problem.classes * static_cast<int64_t>(hidden_.dtype().itemsize());
    chunk_ = std::min(std::max<int64_t>(1, workspace / row_bytes), problem.rows);
    if (chunk_ < problem.rows && chunk_ > kTile) chunk_ -= chunk_ % kTile;
    // Sums over several chunks are kept in the dtype of sums; cuBLAS rounds those of one chunk itself.
    const auto weight_sums = chunk_ < problem.rows ? problem.sums : weight_.options();
    d_hidden_ = result(wanted[0], hidden.sizes(), hidden_.options());
    d_weight_ = result(wanted[1], weight_.sizes(), weight_sums);
    d_bias_ = result(wanted[2], {problem.classes}, problem.sums);
    if (wanted[1] && problem.rows == 0) d_weight_.zero_();
    if (wanted[2]) d_bias_.zero_();
  }

  at::ScalarType type() const { return hidden_.scalar_type(); }

  // Takes all rows through the kernel that `all` is for.
  template <class T>
  void run(const SoftmaxParams<T>& all, const CudaScope& scope) {
    if (problem_.rows == 0) return;
    const bool with_gradient = wanted_[0] || wanted_[1] || wanted_[2];
    if (all.d_numbers && !with_gradient) return;
    const Tensor memory = at::empty({chunk_, problem_.classes}, hidden_.options());
    T* const logits = output_pointer<T>(memory);
    for (int64_t first = 0; first < problem_.rows; first += chunk_) {
      const int64_t count = std::min(chunk_, problem_.rows - first);
      const Tensor h = hidden_.narrow(0, first, count), x = memory.narrow(0, 0, count);
      compute_logits(x, h);
      SoftmaxParams<T> p = all;
      p.rows = count;
      p.logits = logits;
      p.d_logits = with_gradient ? logits : nullptr;
      const auto skip = [first](auto*& pointer, int64_t of_row) {
        if (pointer) pointer += first * of_row;
      };
      skip(p.target.target, 1);
      skip(p.target.probabilities, p.classes);
      skip(p.numbers, 1);
      skip(p.d_numbers, 1);
      if (p.statistics) skip(p.ranks, 1);
      C10_CUDA_CHECK(cuda::launch_softmax_rows(p, scope.stream()));
      add_gradients(first, x, h);
    }
  }

  // In the dtype of the tensors.
  LinearGradients gradients() const { return {d_hidden_, d_weight_.to(type()), d_bias_.to(type())}; }

 private:
  static constexpr int64_t kTile = 128;  // rows that cuBLAS's larger tiles have

  void compute_logits(Tensor x, const Tensor& h) const {
    if (bias_.defined())
      at::addmm_out(x, bias_, h, weight_.t());
    else
      product(x, h, weight_.t());
  }

  // h: hidden states as they are, of rows that may hold anything where their target is ignored.
  void add_gradients(int64_t first, const Tensor& d, Tensor h) {
    if (wanted_[1] && !problem_.soft) {
      const Tensor counts = problem_.target.view(-1).narrow(0, first, h.size(0)).ne(problem_.arguments.ignore_index);
      h = at::where(counts.unsqueeze(1), h, at::zeros({}, h.options()));
    }
    if (wanted_[0]) product(d_hidden_.view(hidden_.sizes()).narrow(0, first, h.size(0)), d, weight_);
    if (wanted_[1] && first == 0) product(d_weight_, d.t(), h);
    if (wanted_[1] && first > 0) add_product(d_weight_, d.t(), h);
    if (wanted_[2]) d_bias_.add_(at::sum(d, {0}, false, d_bias_.scalar_type()));
  }

  const SoftmaxProblem& problem_;
  const Wanted wanted_;
  const Tensor weight_, bias_, hidden_;  // [V, H], [V] or undefined, [R, H]
  int64_t chunk_;                        // rows
  Tensor d_hidden_, d_weight_, d_bias_;
};

LinearSoftmaxLossResult linear_softmax_loss_cuda(const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias,
                                                 SEQKERN_SOFTMAX_ARGUMENTS, int64_t reduction, bool statistics, Wanted wanted,
                                                 int64_t workspace) {
  const int64_t classes = check_linear(hidden, weight, bias);
  check_cuda_dtype(hidden, "hidden");
  const CudaScope scope(hidden);
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, hidden, "hidden", classes);
  const Outputs outputs(problem, checked_reduction(reduction), statistics);
  Linear linear(problem, hidden, weight, bias, wanted, workspace);
  for_dtype(linear.type(), [&](auto tag) {
    const auto p = parameters<decltype(tag)>(problem, outputs);
    C10_CUDA_CHECK(cuda::launch_softmax_denominator(p, scope.stream()));
    linear.run(p, scope);
    C10_CUDA_CHECK(cuda::launch_softmax_loss(p, scope.stream()));
  });
  const auto [d_hidden, d_weight, d_bias] = linear.gradients();
  return {problem.loss(outputs.numbers, outputs.reduced, outputs.reduction),
          outputs.numbers,
          outputs.ranks,
          outputs.denominator,
          d_hidden,
          d_weight,
          d_bias};
}

LinearGradients linear_softmax_loss_backward_cuda(const Tensor& hidden, const Tensor& weight, const MaybeTensor& bias,
                                                  SEQKERN_SOFTMAX_ARGUMENTS, const Tensor& numbers, const Tensor& d_numbers,
                                                  Wanted wanted, int64_t workspace) {
  const int64_t classes = check_linear(hidden, weight, bias);
  check_cuda_dtype(hidden, "hidden");
  const CudaScope scope(hidden);
  const SoftmaxProblem problem(SEQKERN_PASS_SOFTMAX_ARGUMENTS, hidden, "hidden", classes);
  const Known known{problem.checked_numbers(numbers), problem.checked_d_numbers(d_numbers)};
  Linear linear(problem, hidden, weight, bias, wanted, workspace);
  for_dtype(linear.type(), [&](auto tag) { linear.run(parameters<decltype(tag)>(problem, known), scope); });
  return linear.gradients();
}

// Waits for nothing: a factor of 1 is seen on the device, which then leaves the tensor as it is.
void scale_cuda(const Tensor& tensor, const Tensor& by) {
  check_scale(tensor, by);
  check_cuda_dtype(tensor, "tensor");
  const CudaScope scope(tensor);
  for_dtype(tensor.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    const Tensor factor = by.to(softmax_sum_type(tensor.scalar_type()));
    const ScaleParams<T> p{tensor.numel(), input_pointer<S>(factor), output_pointer<T>(tensor)};
    C10_CUDA_CHECK(cuda::launch_scale(p, scope.stream()));
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) {
  m.impl("scale_", scale_cuda);
  m.impl("softmax_loss", softmax_loss_cuda);
  m.impl("softmax_loss_backward", softmax_loss_backward_cuda);
  m.impl("linear_softmax_loss", linear_softmax_loss_cuda);
  m.impl("linear_softmax_loss_backward", linear_softmax_loss_backward_cuda);
}

}  // namespace seqkern::ops
