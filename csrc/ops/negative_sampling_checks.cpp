// The checks of the arguments of the ops of negative sampling.
#include "ops/negative_sampling.h"

namespace seqkern::ops {
namespace {

void check_ids(const Tensor& ids, const char* name, const Tensor& like, const char* like_name) {
  TORCH_CHECK_TYPE(ids.scalar_type() == at::kLong, name, " has dtype ", ids.scalar_type(), ", expected int64");
  TORCH_CHECK_VALUE(ids.device() == like.device(), name, " is on ", ids.device(), ", expected ", like.device(), " as ", like_name,
                    " is");
}

}  // namespace

void SamplingProblem::set_matrices(const Tensor& source, const char* name, const Tensor& given_weight) {
  TORCH_CHECK_TYPE(source.is_floating_point(), name, " has dtype ", source.scalar_type(), ", expected a floating-point dtype");
  TORCH_CHECK_VALUE(source.dim() == 2, name, " has shape ", source.sizes(), ", expected 2 dimensions");
  check_like(given_weight, "weight", source, name);
  TORCH_CHECK_VALUE(given_weight.dim() == 2 && given_weight.size(1) == source.size(1), "weight has shape ", given_weight.sizes(),
                    ", expected (V, ", source.size(1), ") = (V, D)");
  features = source.size(1);
  size = given_weight.size(0);
  weight = given_weight.contiguous();
  sums = source.options().dtype(source.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

SamplingProblem::SamplingProblem(const Tensor& given_hidden, const Tensor& given_weight, const Tensor& ids) {
  set_matrices(given_hidden, "hidden", given_weight);
  hidden = given_hidden.contiguous();
  examples = hidden.size(0);
  check_ids(ids, "ids", hidden, "hidden");
  TORCH_CHECK_VALUE((ids.dim() == 1 || ids.dim() == 2) && ids.size(0) == examples, "ids has shape ", ids.sizes(), ", expected (",
                    examples, ",) = (B,) or (", examples, ", K) = (B, K)");
  others = ids.contiguous();
  each = count = stride = ids.dim() == 2 ? ids.size(1) : 1;
}

SamplingProblem::SamplingProblem(const Tensor& source, const Tensor& given_weight, const MaybeTensor& given_contexts,
                                 int64_t padding_idx, const Tensor& given_target, const Tensor& negatives) {
  const char* const name = given_contexts ? "embedding" : "hidden";
  set_matrices(source, name, given_weight);
  if (given_contexts) {
    embedding = source.contiguous();
    check_ids(*given_contexts, "contexts", source, name);
    TORCH_CHECK_VALUE(given_contexts->dim() == 2, "contexts has shape ", given_contexts->sizes(), ", expected (B, C)");
    contexts = given_contexts->contiguous();
    examples = contexts.size(0);
    context_count = contexts.size(1);
    embedding_size = embedding.size(0);
    padding = padding_idx;
  } else {
    hidden = source.contiguous();
    examples = hidden.size(0);
  }
  check_ids(given_target, "target", source, name);
  check_shape(given_target, "target", {examples}, "(B,)");
  check_ids(negatives, "negatives", source, name);
  const bool shared = negatives.dim() == 1;
  TORCH_CHECK_VALUE(shared || (negatives.dim() == 2 && negatives.size(0) == examples), "negatives has shape ", negatives.sizes(),
                    ", expected (", examples, ", K) = (B, K), or (K,) for all examples");
  target = given_target.contiguous();
  others = negatives.contiguous();
  count = negatives.size(-1);
  stride = shared ? 0 : count;
  each = count + 1;
}

Tensor SamplingProblem::checked_gradient(const Tensor& given, const char* name, at::ScalarType type,
                                         at::IntArrayRef expected) const {
  TORCH_CHECK_TYPE(given.scalar_type() == type, name, " has dtype ", given.scalar_type(), ", expected ", type);
  check_shape(given, name, expected, "the shape of what it is the gradient of");
  TORCH_CHECK_VALUE(given.device() == sums.device(), name, " is on ", given.device(), ", expected ", sums.device());
  return given.contiguous();
}

}  // namespace seqkern::ops
