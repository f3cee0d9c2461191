// The ops that draw classes on CUDA. Schemas are in ops/sampling.cpp.
//
// Targets cannot be looked at here without waiting for the device: one out of range excludes nothing.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "cuda/sampling.h"
#include "math/distinct_draws.h"
#include "ops/cuda_context.h"
#include "ops/sampling.h"

namespace seqkern::ops {
namespace {

using at::Tensor;

Tensor sample_alias_cuda(const Tensor& table, const Tensor& seed, int64_t count) {
  check_alias_table(table, seed);
  check_count(count);
  const CudaScope scope(table);
  const Tensor buckets = table.contiguous(), ids = at::empty({count}, seed.options());
  AliasDrawsParams p{};
  p.buckets = input_pointer<math::AliasBucket>(buckets);
  p.classes = table.size(0);
  p.seed = input_pointer<uint64_t>(seed);
  p.count = count;
  p.ids = output_pointer<int64_t>(ids);
  C10_CUDA_CHECK(cuda::launch_draw_alias(p, scope.stream()));
  return ids;
}

Tensor sample_distinct_cuda(const Tensor& table, const Tensor& cumulative, const Tensor& target, const Tensor& seed,
                            int64_t count) {
  check_distinct(table, cumulative, target, seed, count);
  const CudaScope scope(table);
  const int64_t rows = target.size(0);
  const Tensor buckets = table.contiguous(), sums = cumulative.contiguous(), excluded = target.contiguous();
  const Tensor ids = at::empty({rows, count}, seed.options());
  const Tensor workspace = at::empty({math::distinct_workspace(count), rows}, table.options());
  DistinctDrawsParams p{};
  p.buckets = input_pointer<math::AliasBucket>(buckets);
  p.cumulative = input_pointer<int64_t>(sums);
  p.classes = table.size(0);
  p.seed = input_pointer<uint64_t>(seed);
  p.rows = rows;
  p.count = count;
  p.target = input_pointer<int64_t>(excluded);
  p.ids = output_pointer<int64_t>(ids);
  p.workspace = output_pointer<int32_t>(workspace);
  C10_CUDA_CHECK(cuda::launch_draw_distinct(p, scope.stream()));
  return ids;
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) {
  m.impl("sample_alias", sample_alias_cuda);
  m.impl("sample_distinct", sample_distinct_cuda);
}

}  // namespace seqkern::ops
