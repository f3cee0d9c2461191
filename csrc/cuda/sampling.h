// Launchers of the CUDA kernels that draw classes.
#pragma once

#include <cuda_runtime_api.h>

#include "params/sampling.h"

namespace seqkern::cuda {

cudaError_t launch_draw_alias(const AliasDrawsParams& params, cudaStream_t stream);
cudaError_t launch_draw_distinct(const DistinctDrawsParams& params, cudaStream_t stream);

}  // namespace seqkern::cuda
