// The ops that draw classes: alias_table, which the two others draw from; sample_alias, independent draws; sample_distinct, rows
// of draws without replacement that exclude the row's target. What callers use is in seqkern/functional/sampling.py.
#include "ops/sampling.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>

#include "cpu/sampling.h"
#include "ops/cpu_tensor.h"

namespace seqkern::ops {

namespace {

using at::Tensor;

constexpr int64_t kMostClasses = 0x7FFFFFFF;

std::tuple<Tensor, Tensor> alias_table_cpu(const Tensor& weights) {
  TORCH_CHECK_TYPE(weights.scalar_type() == at::kDouble, "weights has dtype ", weights.scalar_type(), ", expected Double");
  TORCH_CHECK_VALUE(weights.dim() == 1 && weights.size(0) > 0 && weights.size(0) <= kMostClasses, "weights has shape ",
                    weights.sizes(), ", expected (V) with 0 < V <= ", kMostClasses);
  const Tensor given = weights.contiguous();
  const double* const weight = given.const_data_ptr<double>();
  const int64_t classes = given.size(0);
  double sum = 0;
  for (int64_t v = 0; v < classes; ++v) {
    TORCH_CHECK_VALUE(weight[v] >= 0, "weights holds ", weight[v], " at position ", v, ", expected finite weights >= 0");
    sum += weight[v];
  }
  // Of a smaller sum, the inverse times V 2^32 may not be finite.
  TORCH_CHECK_VALUE(std::isfinite(sum) && sum >= 1e-280, "weights has the sum ", sum, ", expected a finite one >= 1e-280");
  const Tensor table = at::detail::empty_cpu({classes, 2}, weights.options().dtype(at::kInt));
  const Tensor cumulative = at::detail::empty_cpu({classes}, weights.options().dtype(at::kLong));
  cpu::make_alias_table(weight, classes, static_cast<math::AliasBucket*>(table.mutable_data_ptr()),
                        cumulative.mutable_data_ptr<int64_t>());
  return {table, cumulative};
}

// A thread for every few microseconds of work.
int threads_for(int64_t draws) {
  constexpr int64_t kDrawsOfThread = 1024;
  if (at::in_parallel_region()) return 1;
  return static_cast<int>(std::min<int64_t>(at::get_num_threads(), draws / kDrawsOfThread + 1));
}

const math::AliasBucket* buckets_of(const Tensor& table) { return static_cast<const math::AliasBucket*>(table.const_data_ptr()); }
const uint64_t* seed_of(const Tensor& seed) { return static_cast<const uint64_t*>(seed.const_data_ptr()); }

Tensor sample_alias_cpu(const Tensor& table, const Tensor& seed, int64_t count) {
  check_alias_table(table, seed);
  check_count(count);
  const Tensor buckets = table.contiguous(), ids = new_tensor({count}, seed.options());
  AliasDrawsParams p{};
  p.buckets = buckets_of(buckets);
  p.classes = table.size(0);
  p.seed = seed_of(seed);
  p.count = count;
  p.ids = ids.mutable_data_ptr<int64_t>();
  p.threads = threads_for(count);
  cpu::draw_alias(p);
  return ids;
}

Tensor sample_distinct_cpu(const Tensor& table, const Tensor& cumulative, const Tensor& target, const Tensor& seed,
                           int64_t count) {
  check_distinct(table, cumulative, target, seed, count);
  const Tensor buckets = table.contiguous(), sums = cumulative.contiguous(), excluded = target.contiguous();
  DistinctDrawsParams p{};
  p.buckets = buckets_of(buckets);
  p.cumulative = sums.const_data_ptr<int64_t>();
  p.classes = table.size(0);
  p.seed = seed_of(seed);
  p.rows = target.size(0);
  p.count = count;
  p.target = excluded.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < p.rows; ++row)
    TORCH_CHECK_INDEX(p.target[row] < p.classes, "target holds ", p.target[row], " at position ", row,
                      ", expected less than V = ", p.classes);
  const Tensor ids = new_tensor({p.rows, count}, seed.options());
  p.ids = ids.mutable_data_ptr<int64_t>();
  p.threads = threads_for(p.rows * count);
  cpu::draw_distinct(p);
  return ids;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  m.def("alias_table(Tensor weights) -> (Tensor table, Tensor cumulative)", {at::Tag::pt2_compliant_tag});
  m.def("sample_alias(Tensor table, Tensor seed, SymInt count) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("sample_distinct(Tensor table, Tensor cumulative, Tensor target, Tensor seed, SymInt count) -> Tensor",
        {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) {
  m.impl("alias_table", alias_table_cpu);
  m.impl("sample_alias", sample_alias_cpu);
  m.impl("sample_distinct", sample_distinct_cpu);
}

}  // namespace seqkern::ops
