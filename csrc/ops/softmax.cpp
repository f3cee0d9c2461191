// The softmax-loss ops: schema, checks, and the CPU implementation. The autograd formula is in seqkern/functional/softmax.py.
#include "ops/softmax.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "cpu/kernels.h"
#include "ops/cpu_tensor.h"

namespace seqkern::ops {

namespace {

template <class Stored, class T>
void run(const Tensor& logits, const Tensor& target, int64_t ignore_index, const Tensor& loss, const Tensor& d_logits) {
  const int64_t classes = logits.size(-1), rows = logits.numel() / classes;
  const int64_t* targets = target.data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r)
    TORCH_CHECK_INDEX((targets[r] >= 0 && targets[r] < classes) || targets[r] == ignore_index, "target holds ", targets[r],
                      " at position ", r, ", expected 0 <= target < V = ", classes, " or ignore_index = ", ignore_index);
  const Tensor row_loss = at::empty({rows}, loss.options().dtype(at::kDouble));
  double mean = 0;
  SoftmaxLossParams<T> p{};
  p.rows = rows;
  p.classes = classes;
  p.ignore_index = ignore_index;
  p.threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  p.logits = reinterpret_cast<const T*>(logits.data_ptr<Stored>());
  p.target = targets;
  p.row_loss = row_loss.data_ptr<double>();
  p.loss = &mean;
  p.d_logits = d_logits.defined() ? reinterpret_cast<T*>(d_logits.data_ptr<Stored>()) : nullptr;
  cpu::kernels<T>().softmax_loss(p);
  loss.fill_(mean);
}

std::tuple<Tensor, Tensor> time_softmax_loss_cpu(const Tensor& logits, const Tensor& target, int64_t ignore_index,
                                                 bool with_gradient) {
  check_softmax_loss(logits, target);
  const auto type = logits.scalar_type();
  const Tensor x = logits.contiguous(), t = target.contiguous();
  const Tensor d_logits = with_gradient ? new_tensor(x.sizes(), x.options()) : Tensor();
  const Tensor loss = at::empty({}, x.options().dtype(softmax_loss_type(type)));
  if (type == at::kFloat)
    run<float, float>(x, t, ignore_index, loss, d_logits);
  else if (type == at::kDouble)
    run<double, double>(x, t, ignore_index, loss, d_logits);
  else if (type == at::kBFloat16)
    run<at::BFloat16, math::BFloat16>(x, t, ignore_index, loss, d_logits);
  else
    TORCH_CHECK_TYPE(false, "logits has dtype ", type, ", expected float32, float64 or bfloat16 on the CPU");
  return {loss, with_gradient ? d_logits : at::empty({0}, x.options())};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  m.def(
      "time_softmax_loss(Tensor logits, Tensor target, int ignore_index, bool with_gradient) "
      "-> (Tensor loss, Tensor d_logits)",
      {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) { m.impl("time_softmax_loss", time_softmax_loss_cpu); }

}  // namespace seqkern::ops
