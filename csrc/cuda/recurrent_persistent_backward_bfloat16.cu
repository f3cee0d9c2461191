#include "cuda/recurrent_persistent_backward.cuh"

namespace seqkern::cuda {

SEQKERN_INSTANTIATE_PERSISTENT(BFloat16)

}  // namespace seqkern::cuda
