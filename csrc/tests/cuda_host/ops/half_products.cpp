// Products of half types that leave their float32 sums, which torch has on CUDA only, for tensors on the CPU.
#include <ATen/ops/bmm.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

namespace {

at::Tensor& mm_out(const at::Tensor& a, const at::Tensor& b, at::ScalarType type, at::Tensor& out) {
  return at::mm_out(out, a.to(type), b.to(type));
}

at::Tensor& bmm_out(const at::Tensor& a, const at::Tensor& b, at::ScalarType type, at::Tensor& out) {
  return at::bmm_out(out, a.to(type), b.to(type));
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("mm.dtype_out", mm_out);
  m.impl("bmm.dtype_out", bmm_out);
}
