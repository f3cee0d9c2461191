// Launchers of the CUDA kernels of negative sampling. T: float, double, math::BFloat16 or Float16.
//
// `examples` comes first; `losses` reduces what it has written, and `rows` adds up a dense gradient from it.
#pragma once

#include <cuda_runtime_api.h>

#include "params/negative_sampling.h"

namespace seqkern::cuda {

// What the kernels hand on. Arrays are there if what they are for is.
template <class T, class S = math::Sum<T>>
struct NegativeSamplingMemory {
  S* word_losses;         // [B, N], for losses
  S* slopes;              // [B, N] the gradients of scores
  S* means;               // [B, D] the hidden states of contexts
  S* shares;              // [B] one over the number of an example's contexts
  S* d_means;             // [B, D]
  int64_t* word_rows;     // [B, N] for a dense gradient of the weight: the words; V for those that get nothing
  int64_t* context_rows;  // [B, C] likewise for the embedding: the contexts, or E
  const int64_t* spare;   // [1] for a sparse gradient of the embedding: the row that padding names
};

// Writes all but the reduced loss and dense gradients of matrices, which p has here not. An example with a word or context that
// is out of range has NaN for its loss and the gradient of its hidden state, and adds nothing to matrices; of dots, such a word
// has NaN for its score and adds nothing to anything.
template <class T>
cudaError_t launch_sampling_examples(const NegativeSamplingParams<T>& p, const NegativeSamplingMemory<T>& memory,
                                     cudaStream_t stream);

// Writes the loss.
template <class T>
cudaError_t launch_sampling_losses(const NegativeSamplingParams<T>& p, cudaStream_t stream);

// Adds up the uses of each row, which are sorted by it, in their order. Rows that have none are left alone.
template <class T, class S = math::Sum<T>>
struct AddRowsParams {
  int64_t uses;          // M
  int64_t features;      // D
  int64_t size;          // V; rows of this number are left out
  int64_t each;          // uses of an example
  bool factor_each;      // whether every use has a factor of its own, or an example's have one
  const int64_t* rows;   // [M], rising
  const int64_t* order;  // [M]: which uses they are
  const S* factors;      // [M] or [B]
  const T* from;         // [B, D]; or null, with
  const S* sums;         // [B, D]
  T* to;                 // [V, D]
};
template <class T>
cudaError_t launch_add_rows(const AddRowsParams<T>& p, cudaStream_t stream);

}  // namespace seqkern::cuda
