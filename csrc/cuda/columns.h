// Launcher of the CUDA kernel on columns of a matrix. T: float, double, math::BFloat16 or Float16.
#pragma once

#include <cuda_runtime_api.h>

#include "math/types.h"
#include "params/columns.h"

namespace seqkern::cuda {

// to[m, r] = from[r, ids[m]]; NaN where an index is out of range.
template <class T>
cudaError_t launch_gather_columns(const ColumnsParams<T>& params, cudaStream_t stream);

}  // namespace seqkern::cuda
