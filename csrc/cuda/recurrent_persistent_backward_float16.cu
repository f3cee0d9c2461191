#include "cuda/recurrent_persistent_backward.cuh"

namespace seqkern::cuda {

SEQKERN_INSTANTIATE_PERSISTENT(Float16)

}  // namespace seqkern::cuda
