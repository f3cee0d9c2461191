// The checks of train_word_vectors_'s arguments.
#include <limits>

#include "ops/checks.h"
#include "ops/word_vectors.h"

namespace seqkern::ops {

namespace {

void check_tensor(const Tensor& tensor, const char* name, at::ScalarType type, int64_t dimensions, const Tensor& input) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == type, name, " has dtype ", tensor.scalar_type(), ", expected ", type);
  TORCH_CHECK_VALUE(tensor.dim() == dimensions, name, " has shape ", tensor.sizes(), ", expected ", dimensions, " dimension(s)");
  TORCH_CHECK_VALUE(tensor.device() == input.device(), name, " is on ", tensor.device(), ", expected ", input.device(),
                    " as input is");
  TORCH_CHECK_VALUE(tensor.is_contiguous(), name, " has strides ", tensor.strides(), ", expected a contiguous tensor");
}

template <class T>
const T* elements(const OptionalTensor& tensor, const char* name, at::ScalarType type, at::IntArrayRef shape,
                  const Tensor& input) {
  if (!tensor) return nullptr;
  check_tensor(*tensor, name, type, static_cast<int64_t>(shape.size()), input);
  for (size_t i = 0; i < shape.size(); ++i)
    TORCH_CHECK_VALUE(shape[i] < 0 || tensor->size(static_cast<int64_t>(i)) == shape[i], name, " has shape ", tensor->sizes(),
                      ", expected ", shape);
  return static_cast<const T*>(tensor->const_data_ptr());
}

int checked_int(int64_t value, const char* name, int64_t least) {
  constexpr int64_t most = std::numeric_limits<int>::max() / 16;
  TORCH_CHECK_VALUE(value >= least && value <= most, name, " is ", value, ", expected ", least, " to ", most);
  return static_cast<int>(value);
}

}  // namespace

WordVectorsParams word_vectors_params(const Tensor& input, const Tensor& output, const Tensor& totals, const Tensor& ids,
                                      int64_t begin, int64_t end, int64_t vector_size, bool cbow, int64_t window,
                                      bool shrink_windows, bool mean, bool exact, const OptionalTensor& keep,
                                      const OptionalTensor& subwords, const OptionalTensor& subword_offsets,
                                      int64_t most_subwords, int64_t negatives, bool shared, const OptionalTensor& noise,
                                      const OptionalTensor& path, const OptionalTensor& path_labels,
                                      const OptionalTensor& path_offsets, int64_t most_nodes, double rate, double rate_step,
                                      int64_t seed, int64_t epoch) {
  check_tensor(input, "input", at::kFloat, 2, input);
  check_tensor(output, "output", at::kFloat, 2, input);
  check_tensor(totals, "totals", at::kDouble, 1, input);
  check_tensor(ids, "ids", at::kInt, 1, input);
  const int64_t stride = input.size(1), length = ids.size(0);
  const int64_t vocabulary = output.size(0) + (path ? 1 : 0);
  TORCH_CHECK_VALUE(stride > 0 && stride % 16 == 0, "input has shape ", input.sizes(),
                    ", expected rows of a multiple of 16 floats");
  TORCH_CHECK_VALUE(output.size(1) == stride, "output has shape ", output.sizes(), ", expected rows of ", stride,
                    " floats as input has");
  TORCH_CHECK_VALUE(input.size(0) >= vocabulary && vocabulary <= std::numeric_limits<int32_t>::max(), "input has shape ",
                    input.sizes(), ", expected at least ", vocabulary, " rows, one for each word of output");
  TORCH_CHECK_VALUE(input.size(0) <= std::numeric_limits<int32_t>::max(), "input has shape ", input.sizes(),
                    ", expected fewer than 2^31 rows");
  TORCH_CHECK_VALUE(totals.size(0) == 3, "totals has shape ", totals.sizes(), ", expected [3]");
  TORCH_CHECK_VALUE(0 <= begin && begin <= end && end <= length, "begin and end are ", begin, " and ", end,
                    ", expected 0 <= begin <= end <= ", length, ", the length of ids");
  TORCH_CHECK_VALUE(vector_size > 0 && vector_size <= stride, "vector_size is ", vector_size, ", expected 1 to ", stride,
                    ", the floats of a row");
  TORCH_CHECK_VALUE(!subwords == !subword_offsets, "subwords and subword_offsets must be given together");
  TORCH_CHECK_VALUE(!path == !path_labels && !path == !path_offsets, "path, path_labels and path_offsets must be given together");
  TORCH_CHECK_VALUE(!path || path_labels->sizes() == path->sizes(), "path_labels has shape ", path_labels->sizes(), ", expected ",
                    path->sizes(), " as path has");
  TORCH_CHECK_VALUE(noise || path, "neither noise nor path is given, expected one of them");
  TORCH_CHECK_VALUE(!noise || !path, "noise and path are both given, expected one of them");
  WordVectorsParams p{};
  p.ids = ids.const_data_ptr<int32_t>();
  p.length = length;
  p.begin = begin;
  p.end = end;
  p.vector_size = vector_size;
  p.stride = stride;
  p.vocabulary = vocabulary;
  p.input_rows = input.size(0);
  p.input = input.mutable_data_ptr<float>();
  p.output = output.mutable_data_ptr<float>();
  p.cbow = cbow;
  p.window = checked_int(window, "window", 1);
  p.shrink_windows = shrink_windows;
  p.keep = elements<uint32_t>(keep, "keep", at::kInt, {vocabulary}, input);
  p.mean = mean;
  p.exact = exact;
  p.subwords = elements<int32_t>(subwords, "subwords", at::kInt, {-1}, input);
  p.subword_offsets = elements<int64_t>(subword_offsets, "subword_offsets", at::kLong, {vocabulary + 1}, input);
  p.subword_count = subwords ? subwords->size(0) : 0;
  p.most_subwords = checked_int(most_subwords, "most_subwords", 0);
  p.negatives = noise ? checked_int(negatives, "negatives", 1) : 0;
  p.shared = shared && !cbow;
  TORCH_CHECK_VALUE(int64_t{p.window} * p.negatives <= std::numeric_limits<int>::max() / 16, "window and negatives are ", window,
                    " and ", negatives, ", expected a product of at most ", std::numeric_limits<int>::max() / 16);
  p.noise = elements<math::AliasBucket>(noise, "noise", at::kInt, {vocabulary, 2}, input);
  p.path = elements<int32_t>(path, "path", at::kInt, {-1}, input);
  p.path_labels = elements<uint8_t>(path_labels, "path_labels", at::kByte, {-1}, input);
  p.path_offsets = elements<int64_t>(path_offsets, "path_offsets", at::kLong, {vocabulary + 1}, input);
  p.path_count = path ? path->size(0) : 0;
  p.most_nodes = checked_int(most_nodes, "most_nodes", 0);
  p.rate = rate;
  p.rate_step = rate_step;
  p.seed = static_cast<uint64_t>(seed);
  TORCH_CHECK_VALUE(epoch >= 0 && epoch <= std::numeric_limits<uint32_t>::max(), "epoch is ", epoch, ", expected 0 to 2^32 - 1");
  p.epoch = static_cast<uint32_t>(epoch);
  p.totals = totals.mutable_data_ptr<double>();
  return p;
}

}  // namespace seqkern::ops
