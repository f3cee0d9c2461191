// What the softmax-loss kernels take, on the CPU and on CUDA. R rows (time steps times sequences), V classes; arrays are
// contiguous, and may be null where it says so. math/softmax.h has the formulas.
#pragma once

#include <cstdint>

#include "math/softmax_options.h"
#include "math/types.h"
#include "params/reduction.h"

namespace seqkern {

// What logits are held against. T: the tensors' type, S: the type of sums.
template <class T, class S = math::Sum<T>>
struct SoftmaxTarget {
  const int64_t* target;   // [R]: class indices or ignore_index; or null, with
  const T* probabilities;  // [R, V]: a distribution a row
  const S* class_weight;   // [V], or null: ones
  int64_t ignore_index;    // rows with this target count for nothing
  int64_t first_class;     // the classes here are [first_class, first_class + V) of all_classes: a shard of a vocabulary, in
  int64_t all_classes;     // which a target may be absent. Class weights are those of the shard
  math::SoftmaxOptions<S> options;
};

// Either begins with the logits and yields the rows' numbers, the loss, and, if asked for, the loss's gradient; or, with
// d_numbers, begins with the numbers of an earlier call and yields the gradient alone.
template <class T, class S = math::Sum<T>>
struct SoftmaxParams {
  int64_t rows;     // R
  int64_t classes;  // V
  int threads;      // CPU only
  int64_t stride;   // CUDA only: between rows of numbers, ranks and d_numbers: R, or more where these are parts of wider arrays
  bool statistics;  // whether to yield kRowMean and ranks
  Reduction reduction;  // mean: over the rows that count, weighted by the class weights of hard targets
  SoftmaxTarget<T, S> target;
  const T* logits;     // [R, V]
  S* numbers;          // [kRowNumbers, R]; read, not written, with d_numbers
  int64_t* ranks;      // [2, R]: how many classes come before the target, and the class with the greatest logit; -1 where ignored
  S* denominator;      // [1]: what the mean divides by (0 where nothing counts), 1 for other reductions
  S* loss;             // [1] the mean or sum; null without reduction (the losses are in the numbers)
  const S* d_numbers;  // [kRowGradients, R], or null
  T* d_logits;         // [R, V], or null
};

// Multiplies values by a number that is in memory, unless it is 1: a gradient by that of the loss. CUDA only.
template <class T, class S = math::Sum<T>>
struct ScaleParams {
  int64_t count;
  const S* by;  // [1]
  T* values;    // [count]
};

// The loss of logits h W^T + b that are never held all at once. CPU only: on CUDA, products are cuBLAS's.
// As SoftmaxParams, but for what is said.
template <class T, class S = math::Sum<T>>
struct LinearSoftmaxParams {
  int64_t rows, classes, features;  // R, V, H
  int64_t workspace;                // bytes that may be used, unless one row needs more
  int threads;
  bool statistics;
  Reduction reduction;
  SoftmaxTarget<T, S> target;
  const T* hidden;  // [R, H]
  const T* weight;  // [V, H]
  const T* bias;    // [V], or null
  S* numbers;
  int64_t* ranks;
  S* denominator;
  S* loss;
  const S* d_numbers;
  T* d_hidden;  // [R, H], or null
  S* d_weight;  // [V, H], or null
  S* d_bias;    // [V], or null
};

}  // namespace seqkern
