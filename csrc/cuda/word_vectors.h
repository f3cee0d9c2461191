// Launcher of the CUDA kernels that train word vectors.
#pragma once

#include <cuda_runtime_api.h>

#include "params/word_vectors.h"

namespace seqkern::cuda {

cudaError_t launch_train_word_vectors(const WordVectorsParams& params, cudaStream_t stream);

}  // namespace seqkern::cuda
