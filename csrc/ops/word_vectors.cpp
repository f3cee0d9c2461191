// Training of word vectors: schema, and the CPU implementation. Who calls it is seqkern/vectors/word2vec.py.
#include "ops/word_vectors.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "cpu/word_vectors.h"

namespace seqkern::ops {

namespace {

void check_below(const int32_t* values, int64_t count, int64_t bound, const char* name, int64_t first) {
  int32_t greatest = -1;
  for (int64_t i = 0; i < count; ++i) greatest = std::max(greatest, values[i]);
  if (greatest < bound) return;
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK_INDEX(values[i] < bound, name, " holds ", values[i], " at position ", first + i, ", expected less than ", bound);
}

// Lists of rows: offsets must rise from 0 to the number of elements, in steps of at most `most`, and elements be in [0, rows).
void check_lists(const int32_t* elements, const Tensor& tensor, const int64_t* offsets, int64_t lists, int64_t rows, int64_t most,
                 const char* name, const char* offsets_name) {
  const int64_t count = tensor.size(0);
  TORCH_CHECK_VALUE(offsets[0] == 0 && offsets[lists] == count, offsets_name, " goes from ", offsets[0], " to ", offsets[lists],
                    ", expected 0 to ", count, ", the elements of ", name);
  for (int64_t i = 0; i < lists; ++i)
    TORCH_CHECK_VALUE(offsets[i] < offsets[i + 1] && offsets[i + 1] - offsets[i] <= most, offsets_name, " has ", offsets[i],
                      " and ", offsets[i + 1], " at position ", i, ", expected a step of 1 to ", most);
  check_below(elements, count, rows, name, 0);
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK_INDEX(elements[i] >= 0, name, " holds ", elements[i], " at position ", i, ", expected 0 or more");
}

void train_word_vectors_cpu(const Tensor& input, const Tensor& output, const Tensor& totals, const Tensor& ids, int64_t begin,
                            int64_t end, int64_t vector_size, bool cbow, int64_t window, bool shrink_windows, bool mean,
                            bool exact, const OptionalTensor& keep, const OptionalTensor& subwords,
                            const OptionalTensor& subword_offsets, int64_t most_subwords, int64_t negatives, bool shared,
                            const OptionalTensor& noise, const OptionalTensor& path, const OptionalTensor& path_labels,
                            const OptionalTensor& path_offsets, int64_t most_nodes, double rate, double rate_step, int64_t seed,
                            int64_t epoch, int64_t workers, bool deterministic) {
  WordVectorsParams p = word_vectors_params(input, output, totals, ids, begin, end, vector_size, cbow, window, shrink_windows,
                                            mean, exact, keep, subwords, subword_offsets, most_subwords, negatives, shared, noise,
                                            path, path_labels, path_offsets, most_nodes, rate, rate_step, seed, epoch);
  check_below(p.ids + begin, end - begin, p.vocabulary, "ids", begin);
  if (p.noise != nullptr)
    for (int64_t i = 0; i < p.vocabulary; ++i)
      TORCH_CHECK_INDEX(p.noise[i].alias >= 0 && p.noise[i].alias < p.vocabulary, "noise holds the alias ", p.noise[i].alias,
                        " at position ", i, ", expected 0 to ", p.vocabulary - 1);
  if (subwords)
    check_lists(p.subwords, *subwords, p.subword_offsets, p.vocabulary, input.size(0), most_subwords, "subwords",
                "subword_offsets");
  if (path) check_lists(p.path, *path, p.path_offsets, p.vocabulary, output.size(0), most_nodes, "path", "path_offsets");
  TORCH_CHECK_VALUE(workers >= 0 && workers <= 4096, "workers is ", workers, ", expected 0 to 4096");
  p.threads = at::in_parallel_region() ? 1 : workers ? static_cast<int>(workers) : at::get_num_threads();
  p.deterministic = deterministic || at::globalContext().deterministicAlgorithms();
  cpu::train_word_vectors(p);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  m.def(
      "train_word_vectors_(Tensor(a!) input, Tensor(b!) output, Tensor(c!) totals, Tensor ids, int begin, int end, *, "
      "int vector_size, bool cbow, int window, bool shrink_windows, bool mean, bool exact, Tensor? keep=None, "
      "Tensor? subwords=None, Tensor? subword_offsets=None, int most_subwords=1, int negatives=0, bool shared=False, "
      "Tensor? noise=None, Tensor? path=None, Tensor? path_labels=None, Tensor? path_offsets=None, int most_nodes=0, "
      "float rate, float rate_step, int seed, int epoch, int workers=0, bool deterministic=False) -> ()",
      {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) { m.impl("train_word_vectors_", train_word_vectors_cpu); }

}  // namespace seqkern::ops
