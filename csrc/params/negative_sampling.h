// What the kernels of negative sampling take, on the CPU and on CUDA. B examples, each a hidden state and N words: the one that
// was seen, if there are targets, and K others. Arrays are contiguous, and may be null where it says so.
#pragma once

#include <cstdint>

#include "math/types.h"
#include "params/reduction.h"

namespace seqkern {

// The words of every example: N = K, or K + 1 with targets, which come first.
struct ExampleWords {
  const int64_t* target;  // [B], or null
  const int64_t* others;  // [B, K]; or, with stride 0, [K], shared by all
  int64_t count;          // K
  int64_t stride;         // K, or 0
  int64_t each;           // N
};

// The gradient of a matrix [V, D] of which M rows are used, perhaps more than once.
template <class T>
struct RowsGradient {
  T* values;      // null: not wanted; dense: [V, D], all of it written; sparse: [M, D], of every use its own
  int64_t* rows;  // null: dense; sparse: [M], the row of each use
  int64_t spare;  // sparse: the row of a use that is none, whose values are zeros
};

// In order, so far as it is asked for:
//   hidden states    hidden; or the means of the rows of an embedding that the contexts name
//   scores           their products with the words' vectors
//   losses           sums over the words of math/negative_sampling.h, and the reduced loss
//   gradients        of the scores: given (d_scores), or the loss's; of an example's loss: given (d_losses), or the reduction's
template <class T, class S = math::Sum<T>>
struct NegativeSamplingParams {
  int64_t examples;  // B
  int64_t features;  // D
  int64_t size;      // V, rows of the weight
  int threads;       // CPU only
  Reduction reduction;
  ExampleWords words;
  const T* weight;          // [V, D]
  const T* hidden;          // [B, D]; or null, with
  const T* embedding;       // [E, D]
  const int64_t* contexts;  // [B, C]: rows of the embedding, or padding
  int64_t embedding_size;   // E
  int64_t context_count;    // C
  int64_t padding;
  const T* d_scores;  // [B, N], or null
  const S* d_losses;  // [B], or null
  T* scores;          // [B, N], or null
  S* losses;          // [B], or null
  S* loss;            // [1] the mean or sum of losses; null without reduction
  T* d_hidden;        // [B, D], or null
  RowsGradient<T> d_weight, d_embedding;
};

}  // namespace seqkern
