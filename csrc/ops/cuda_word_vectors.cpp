// Training of word vectors on CUDA. The schema is in ops/word_vectors.cpp.
//
// Elements of tensors cannot be looked at here without waiting for the device: an id out of range ends a sentence, and other rows
// out of range are left out. Warps change the same rows in an order that nothing fixes, so there is no deterministic way.
#include <ATen/Context.h>
#include <torch/library.h>

#include "cuda/limits.h"
#include "cuda/word_vectors.h"
#include "ops/cuda_context.h"
#include "ops/word_vectors.h"

namespace seqkern::ops {
namespace {

template <class T>
void set_pointer(const T*& pointer, const OptionalTensor& tensor) {
  if (tensor) pointer = input_pointer<T>(*tensor);
}

void check_alignment(const float* elements, const char* name) {
  TORCH_CHECK_VALUE(reinterpret_cast<uintptr_t>(elements) % cuda::kVectorBytes == 0, name, " begins at address ", elements,
                    ", expected a multiple of ", cuda::kVectorBytes, " bytes");
}

void train_word_vectors_cuda(const Tensor& input, const Tensor& output, const Tensor& totals, const Tensor& ids, int64_t begin,
                             int64_t end, int64_t vector_size, bool cbow, int64_t window, bool shrink_windows, bool mean,
                             bool exact, const OptionalTensor& keep, const OptionalTensor& subwords,
                             const OptionalTensor& subword_offsets, int64_t most_subwords, int64_t negatives, bool shared,
                             const OptionalTensor& noise, const OptionalTensor& path, const OptionalTensor& path_labels,
                             const OptionalTensor& path_offsets, int64_t most_nodes, double rate, double rate_step, int64_t seed,
                             int64_t epoch, int64_t /*workers*/, bool deterministic) {
  TORCH_CHECK_NOT_IMPLEMENTED(!deterministic && !at::globalContext().deterministicAlgorithms(),
                              "word vectors have no deterministic training on CUDA; expected deterministic=False and "
                              "torch.use_deterministic_algorithms(False), or tensors on the CPU");
  WordVectorsParams p = word_vectors_params(input, output, totals, ids, begin, end, vector_size, cbow, window, shrink_windows,
                                            mean, exact, keep, subwords, subword_offsets, most_subwords, negatives, shared, noise,
                                            path, path_labels, path_offsets, most_nodes, rate, rate_step, seed, epoch);
  const CudaScope scope(input);
  p.input = output_pointer<float>(input);
  p.output = output_pointer<float>(output);
  p.totals = output_pointer<double>(totals);
  p.ids = input_pointer<int32_t>(ids);
  set_pointer(p.keep, keep);
  set_pointer(p.subwords, subwords);
  set_pointer(p.subword_offsets, subword_offsets);
  set_pointer(p.noise, noise);
  set_pointer(p.path, path);
  set_pointer(p.path_labels, path_labels);
  set_pointer(p.path_offsets, path_offsets);
  check_alignment(p.input, "input");
  check_alignment(p.output, "output");
  C10_CUDA_CHECK(cuda::launch_train_word_vectors(p, scope.stream()));
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, CUDA, m) { m.impl("train_word_vectors_", train_word_vectors_cuda); }

}  // namespace seqkern::ops
