// What the CPU and the CUDA implementations of the ops of negative sampling share: their arguments, checked.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <array>
#include <optional>
#include <tuple>

#include "ops/checks.h"
#include "params/negative_sampling.h"

namespace seqkern::ops {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;

// Arguments of an op, checked. Tensors are contiguous; those that an op does not have are undefined.
struct SamplingProblem {
  int64_t examples, features, size, count, stride, each;  // as in params/negative_sampling.h
  int64_t embedding_size = 0, context_count = 0, padding = 0;
  Tensor hidden, embedding, contexts, weight, target, others;
  at::TensorOptions sums;  // of results in the dtype of sums

  // Of embedding_dot: ids [B] or [B, K].
  SamplingProblem(const Tensor& hidden, const Tensor& weight, const Tensor& ids);
  // Of the loss: source is the hidden states [B, D], or with contexts [B, C] an embedding [E, D]; negatives [B, K] or [K].
  SamplingProblem(const Tensor& source, const Tensor& weight, const MaybeTensor& contexts, int64_t padding, const Tensor& target,
                  const Tensor& negatives);

  int64_t uses() const { return examples * each; }
  int64_t context_uses() const { return examples * context_count; }
  const Tensor& source() const { return embedding.defined() ? embedding : hidden; }

  // A gradient of scores or losses: of this dtype and shape, and contiguous.
  Tensor checked_gradient(const Tensor& given, const char* name, at::ScalarType type, at::IntArrayRef expected) const;

  // As kernels take it; pointer(tensor, T()) yields the elements, null for an undefined tensor.
  template <class T, class Pointer>
  NegativeSamplingParams<T> kernel_params(const Pointer& pointer) const {
    NegativeSamplingParams<T> p{};
    p.examples = examples;
    p.features = features;
    p.size = size;
    p.words = {pointer(target, int64_t()), pointer(others, int64_t()), count, stride, each};
    p.weight = pointer(weight, T());
    p.hidden = pointer(hidden, T());
    p.embedding = pointer(embedding, T());
    p.contexts = pointer(contexts, int64_t());
    p.embedding_size = embedding_size;
    p.context_count = context_count;
    p.padding = padding;
    return p;
  }

 private:
  void set_matrices(const Tensor& source, const char* name, const Tensor& weight);
};

// The gradient of a matrix: its values, and of a sparse one the rows [1, M]; what there is not is empty.
using MatrixGradient = std::tuple<Tensor, Tensor>;
// d_hidden; d_weight and its rows
using DotGradients = std::tuple<Tensor, Tensor, Tensor>;
// d_source and its rows; d_weight and its rows
using SamplingGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;
// loss; d_source and its rows; d_weight and its rows
using SamplingLossResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using WantedGradients = std::array<bool, 2>;  // of hidden states or source, and of the weight

}  // namespace seqkern::ops
