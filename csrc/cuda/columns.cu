// Columns of a matrix by index, on CUDA.
#include "cuda/columns.h"

#include <cmath>

#include "cuda/device.cuh"

namespace seqkern::cuda {
namespace {

constexpr int kThreads = 256;

// Threads lie along the rows of the matrix: what they write is contiguous.
template <class T>
SEQKERN_KERNEL(kThreads)
gather(ColumnsParams<T> p) {
  for (int64_t m = block_index_y(); m < p.count; m += block_count_y()) {
    const int64_t column = p.ids[m];
    const bool inside = column >= 0 && column < p.columns;
    for (int64_t r = block_index() * block_size() + thread_index(); r < p.rows; r += block_count() * block_size()) {
      if (inside)
        p.to[m * p.rows + r] = p.from[r * p.columns + column];
      else
        from_sum(static_cast<Sum<T>>(NAN), p.to[m * p.rows + r]);
    }
  }
}

}  // namespace

template <class T>
cudaError_t launch_gather_columns(const ColumnsParams<T>& p, cudaStream_t stream) {
  if (p.count == 0 || p.rows == 0) return cudaSuccess;  // a grid must not be empty
  return launch(gather<T>, {{(p.rows + kThreads - 1) / kThreads, p.count}, kThreads, stream}, p);
}

#define SEQKERN_INSTANTIATE(T) template cudaError_t launch_gather_columns(const ColumnsParams<T>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(math::Float16)

}  // namespace seqkern::cuda
