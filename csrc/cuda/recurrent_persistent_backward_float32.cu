#include "cuda/recurrent_persistent_backward.cuh"

namespace seqkern::cuda {

SEQKERN_INSTANTIATE_PERSISTENT(float)

}  // namespace seqkern::cuda
