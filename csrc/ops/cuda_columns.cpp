// The ops on columns of a matrix on CUDA. Schemas are in ops/columns.cpp.
//
// Indices cannot be looked at here without waiting for the device: one out of range gathers NaN, and what it would scatter is
// left out.
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>

#include "cuda/columns.h"
#include "ops/columns.h"
#include "ops/cuda_dispatch.h"
#include "ops/recurrent.h"

namespace seqkern::ops {
namespace {

Tensor gather_columns_cuda(const Tensor& weight, const Tensor& ids) {
  check_cuda_dtype(weight, "weight");
  check_columns(weight, "weight", "(R, V)", ids);
  const CudaScope scope(weight);
  const Tensor from = weight.contiguous(), at_columns = ids.contiguous();
  const Tensor to = at::empty({ids.size(0), weight.size(0)}, weight.options());
  for_dtype(weight.scalar_type(), [&](auto tag) {
    using T = decltype(tag);
    ColumnsParams<T> p{};
    p.rows = from.size(0);
    p.columns = from.size(1);
    p.count = ids.size(0);
    p.ids = input_pointer<int64_t>(at_columns);
    p.from = input_pointer<T>(from);
    p.to = output_pointer<T>(to);
    C10_CUDA_CHECK(cuda::launch_gather_columns(p, scope.stream()));
  });
  return to;
}

// ATen's gradient of an embedding: it sorts the indices, so that the sums have a fixed order.
Tensor scatter_columns_cuda(const Tensor& d, const Tensor& ids, int64_t columns) {
  check_cuda_dtype(d, "d");
  check_scattered_columns(d, ids);
  const CudaScope scope(d);
  const auto sums = accumulate_type(d.scalar_type());
  // Those out of range meet in a column of their own.
  const Tensor inside = at::where(ids.ge(0).logical_and_(ids.lt(columns)), ids, columns);
  const Tensor found = at::embedding_dense_backward(d.to(sums).contiguous(), inside, columns + 1, -1, false);  // [V + 1, R]
  return found.narrow(0, 0, columns).t().to(d.options()).contiguous();
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) {
  m.impl("gather_columns", gather_columns_cuda);
  m.impl("scatter_columns", scatter_columns_cuda);
}

}  // namespace seqkern::ops
