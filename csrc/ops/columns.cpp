// The ops on columns of a matrix: gather_columns, the product with one-hot vectors, and scatter_columns, its gradient. The
// autograd formula is in seqkern/functional/columns.py.
#include "ops/columns.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "cpu/kernels.h"
#include "ops/cpu_tensor.h"
#include "ops/recurrent.h"

namespace seqkern::ops {

namespace {

void check_dtype(const Tensor& tensor, const char* name) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble || type == at::kBFloat16, name, " has dtype ", type,
                   ", expected float32, float64 or bfloat16 on the CPU");
}

void check_range(const Tensor& ids, int64_t columns) {
  const int64_t* id = ids.const_data_ptr<int64_t>();
  for (int64_t m = 0; m < ids.size(0); ++m)
    TORCH_CHECK_INDEX(id[m] >= 0 && id[m] < columns, "ids[", m, "] is ", id[m], ", expected 0 to ", columns - 1);
}

template <class T>
void run(bool gather, int64_t rows, int64_t columns, const Tensor& ids, const Tensor& from, const Tensor& to) {
  const int threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const ColumnsParams<T> p{
      rows, columns, ids.size(0), ids.const_data_ptr<int64_t>(), from.const_data_ptr<T>(), to.mutable_data_ptr<T>(), threads};
  const auto& kernels = cpu::kernels<T>();
  (gather ? kernels.gather_columns : kernels.scatter_columns)(p);
}

Tensor columns_cpu(bool gather, int64_t rows, int64_t columns, const Tensor& given_ids, const Tensor& from,
                   at::IntArrayRef result_sizes) {
  const Tensor ids = given_ids.contiguous();
  check_range(ids, columns);
  const auto type = from.scalar_type(), sums = accumulate_type(type);
  const Tensor source = from.to(sums).contiguous(), result = new_tensor(result_sizes, source.options());
  (sums == at::kDouble ? run<double> : run<float>)(gather, rows, columns, ids, source, result);
  return result.to(type);
}

Tensor gather_columns_cpu(const Tensor& weight, const Tensor& ids) {
  check_dtype(weight, "weight");
  check_columns(weight, "weight", "(R, V)", ids);
  return columns_cpu(true, weight.size(0), weight.size(1), ids, weight, {ids.numel(), weight.size(0)});
}

Tensor scatter_columns_cpu(const Tensor& d, const Tensor& ids, int64_t columns) {
  check_dtype(d, "d");
  check_scattered_columns(d, ids);
  return columns_cpu(false, d.size(1), columns, ids, d, {d.size(1), columns});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  m.def("gather_columns(Tensor weight, Tensor ids) -> Tensor", {at::Tag::pt2_compliant_tag});
  m.def("scatter_columns(Tensor d, Tensor ids, int columns) -> Tensor", {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) {
  m.impl("gather_columns", gather_columns_cpu);
  m.impl("scatter_columns", scatter_columns_cpu);
}

}  // namespace seqkern::ops
