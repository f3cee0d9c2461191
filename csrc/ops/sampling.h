// What the CPU and the CUDA implementation of the ops that draw classes share.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/checks.h"
#include "params/sampling.h"

namespace seqkern::ops {

// Checks a table as alias_table makes it, [V, 2], and the seed [1].
inline void check_alias_table(const at::Tensor& table, const at::Tensor& seed) {
  TORCH_CHECK_TYPE(table.scalar_type() == at::kInt, "table has dtype ", table.scalar_type(), ", expected Int");
  TORCH_CHECK_VALUE(table.dim() == 2 && table.size(0) > 0 && table.size(1) == 2, "table has shape ", table.sizes(),
                    ", expected (V, 2) with V > 0");
  TORCH_CHECK_TYPE(seed.scalar_type() == at::kLong, "seed has dtype ", seed.scalar_type(), ", expected Long");
  check_shape(seed, "seed", {1}, "(1)");
  TORCH_CHECK_VALUE(seed.device() == table.device(), "seed is on ", seed.device(), ", expected ", table.device(), " as table is");
}

inline void check_count(int64_t count) { TORCH_CHECK_VALUE(count >= 0, "count is ", count, ", expected count >= 0"); }

// Checks the cumulative sums that belong to a table, and targets [R].
inline void check_distinct(const at::Tensor& table, const at::Tensor& cumulative, const at::Tensor& target,
                           const at::Tensor& seed, int64_t count) {
  check_alias_table(table, seed);
  for (const auto& [tensor, name] : {std::pair(cumulative, "cumulative"), std::pair(target, "target")}) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == at::kLong, name, " has dtype ", tensor.scalar_type(), ", expected Long");
    TORCH_CHECK_VALUE(tensor.device() == table.device(), name, " is on ", tensor.device(), ", expected ", table.device(),
                      " as table is");
  }
  check_shape(cumulative, "cumulative", {table.size(0)}, "(V)");
  TORCH_CHECK_VALUE(target.dim() == 1, "target has shape ", target.sizes(), ", expected 1 dimension (R)");
  check_count(count);
  TORCH_CHECK_VALUE(count < table.size(0), "count is ", count, ", expected less than V = ", table.size(0),
                    ": classes are distinct and exclude the target");
}

}  // namespace seqkern::ops
