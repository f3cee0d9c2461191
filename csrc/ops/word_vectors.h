// What the CPU and the CUDA implementation of training word vectors share.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "params/word_vectors.h"

namespace seqkern::ops {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// The arguments of train_word_vectors_, checked for dtypes, shapes and devices, in the form that kernels take. Undefined tensors
// are null. What needs a look at elements, and threads, are left to the implementations.
WordVectorsParams word_vectors_params(const Tensor& input, const Tensor& output, const Tensor& totals, const Tensor& ids,
                                      int64_t begin, int64_t end, int64_t vector_size, bool cbow, int64_t window,
                                      bool shrink_windows, bool mean, bool exact, const OptionalTensor& keep,
                                      const OptionalTensor& subwords, const OptionalTensor& subword_offsets,
                                      int64_t most_subwords, int64_t negatives, bool shared, const OptionalTensor& noise,
                                      const OptionalTensor& path, const OptionalTensor& path_labels,
                                      const OptionalTensor& path_offsets, int64_t most_nodes, double rate, double rate_step,
                                      int64_t seed, int64_t epoch);

}  // namespace seqkern::ops
