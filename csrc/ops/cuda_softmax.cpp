// The softmax-loss ops on CUDA. Schema and checks are in ops/softmax.cpp, kernels in cuda/softmax.cu.
//
// Targets cannot be looked at here without waiting for the device: one out of range makes the loss and its row's gradient NaN.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "cuda/softmax.h"
#include "ops/cuda_dispatch.h"
#include "ops/softmax.h"

namespace seqkern::ops {
namespace {

std::tuple<Tensor, Tensor> time_softmax_loss_cuda(const Tensor& logits, const Tensor& target, int64_t ignore_index,
                                                  bool with_gradient) {
  check_softmax_loss(logits, target);
  check_cuda_dtype(logits, "logits");
  const CudaScope scope(logits);
  const Tensor x = logits.contiguous(), t = target.contiguous();
  const auto sums = x.options().dtype(softmax_loss_type(x.scalar_type()));
  const int64_t classes = x.size(-1), rows = x.numel() / classes;
  const Tensor loss = at::empty({}, sums), row_loss = at::empty({rows}, sums), count = at::empty({1}, t.options());
  const Tensor d_logits = with_gradient ? at::empty(x.sizes(), x.options()) : at::empty({0}, x.options());
  for_dtype(x.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    using S = math::Sum<T>;
    SoftmaxLossCudaParams<T, S> p{};
    p.rows = rows;
    p.classes = classes;
    p.ignore_index = ignore_index;
    p.logits = input_pointer<T>(x);
    p.target = input_pointer<int64_t>(t);
    p.count = output_pointer<int64_t>(count);
    p.row_loss = output_pointer<S>(row_loss);
    p.loss = output_pointer<S>(loss);
    p.d_logits = with_gradient ? output_pointer<T>(d_logits) : nullptr;
    C10_CUDA_CHECK(cuda::launch_softmax_loss(p, scope.stream()));
  });
  return {loss, d_logits};
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) { m.impl("time_softmax_loss", time_softmax_loss_cuda); }

}  // namespace seqkern::ops
