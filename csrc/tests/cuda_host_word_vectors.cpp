// The kernels of cuda/word_vectors.cu, run on the host (tests/cuda_host) against those of the CPU.
//
// Both go through the same examples in orders of their own. At a tiny learning rate the order does not matter: what a row changes
// by is the rate times the sum of the gradients at the matrices as they were.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/word_vectors.h"
#include "cuda/device.cuh"
#include "cuda/word_vectors.cu"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;

struct Options {
  int64_t vector_size = 20, vocabulary = 30, length = 150;
  bool cbow = false, shrink_windows = true, subsample = true, mean = true, exact = true, shared = false;
  int window = 3, negatives = 5;
  bool path = false, subwords = false;
  int sentence = 20;  // words, on average
};

// Floats as rows have them: those of 64 bytes.
class Matrix {
 public:
  explicit Matrix(int64_t floats) : lines_(static_cast<size_t>(floats / 16)) {}
  float* data() { return lines_.data()->at; }
  const float* data() const { return lines_.data()->at; }
  int64_t size() const { return static_cast<int64_t>(lines_.size()) * 16; }

 private:
  struct alignas(64) Line {
    float at[16] = {};
  };
  std::vector<Line> lines_;
};

template <class T>
void declare(const std::vector<T>& values) {
  host::declare_buffer(values.data(), values.size() * sizeof(T));
}

class Problem {
 public:
  Problem(const Options& options, unsigned seed) : options_(options), random_(seed) {
    const Options& o = options_;
    const auto V = static_cast<size_t>(o.vocabulary);
    for (int64_t i = 0; i < o.length; ++i) ids.push_back(below(o.sentence) == 0 ? -1 : below(static_cast<int>(o.vocabulary)));
    for (size_t w = 0; w < V; ++w) {
      keep.push_back(below(2) ? 0xFFFFFFFF : static_cast<uint32_t>(random_()));
      noise.push_back({static_cast<uint32_t>(random_()), below(static_cast<int>(o.vocabulary))});
    }
    const auto draw_lists = [&](std::vector<int32_t>& elements, std::vector<int64_t>& offsets, int64_t rows, int64_t& most) {
      offsets = {0};
      for (size_t w = 0; w < V; ++w) {
        const int count = 1 + below(12);
        for (int i = 0; i < count; ++i) elements.push_back(below(static_cast<int>(rows)));
        offsets.push_back(static_cast<int64_t>(elements.size()));
        most = std::max<int64_t>(most, count);
      }
    };
    p.vector_size = o.vector_size;
    p.stride = (o.vector_size + 15) / 16 * 16;
    p.vocabulary = o.vocabulary;
    p.input_rows = o.vocabulary + (o.subwords ? 7 : 0);
    if (o.subwords) {
      draw_lists(subwords, subword_offsets, p.input_rows, p.most_subwords);
      p.subwords = subwords.data();
      p.subword_offsets = subword_offsets.data();
      p.subword_count = static_cast<int64_t>(subwords.size());
    }
    if (o.path) {
      draw_lists(path, path_offsets, o.vocabulary - 1, p.most_nodes);
      for (size_t i = 0; i < path.size(); ++i) path_labels.push_back(static_cast<uint8_t>(below(2)));
      p.path = path.data();
      p.path_labels = path_labels.data();
      p.path_offsets = path_offsets.data();
      p.path_count = static_cast<int64_t>(path.size());
    } else {
      p.noise = noise.data();
      p.negatives = o.negatives;
    }
    p.ids = ids.data();
    p.length = p.end = o.length;
    p.cbow = o.cbow;
    p.window = o.window;
    p.shrink_windows = o.shrink_windows;
    p.keep = o.subsample ? keep.data() : nullptr;
    p.mean = o.mean;
    p.exact = o.exact;
    p.shared = o.shared && !o.cbow;
    p.seed = random_() | static_cast<uint64_t>(random_()) << 32;
    p.epoch = static_cast<uint32_t>(random_());
    p.threads = 1;
  }

  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }

  Matrix random_matrix(int64_t rows) {
    Matrix matrix(rows * p.stride);
    for (int64_t i = 0; i < matrix.size(); ++i) {
      const float x = std::uniform_real_distribution<float>(-0.5, 0.5)(random_);
      matrix.data()[i] = i % p.stride < p.vector_size ? x : 0;
    }
    return matrix;
  }

  void declare_all() const {
    host::forget_buffers();
    declare(ids);
    declare(keep);
    declare(noise);
    declare(subwords);
    declare(subword_offsets);
    declare(path);
    declare(path_labels);
    declare(path_offsets);
    host::declare_buffer(p.totals, 3 * sizeof(double));
    host::declare_buffer(p.input, static_cast<size_t>(p.input_rows * p.stride) * sizeof(float));
    host::declare_buffer(p.output, static_cast<size_t>((p.vocabulary - (p.path != nullptr)) * p.stride) * sizeof(float));
  }

  std::vector<int32_t> ids, subwords, path;
  std::vector<uint32_t> keep;
  std::vector<math::AliasBucket> noise;
  std::vector<int64_t> subword_offsets, path_offsets;
  std::vector<uint8_t> path_labels;
  WordVectorsParams p{};

 private:
  Options options_;
  std::mt19937 random_;
};

// Whether the changes of a matrix, divided by the rate, are the same, and a row that one leaves alone is left alone by the other.
void check_changes(const WordVectorsParams& p, const Matrix& before, const Matrix& expected, const Matrix& actual) {
  double most = 0, worst = 0;
  int64_t astray = 0;
  for (int64_t row = 0; row < before.size(); row += p.stride) {
    bool idle = true, touched = false;
    for (int64_t i = row; i < row + p.stride; ++i) {
      const auto change = [&](const Matrix& after) {
        return (static_cast<double>(after.data()[i]) - static_cast<double>(before.data()[i])) / p.rate;
      };
      most = std::max(most, std::fabs(change(expected)));
      worst = std::max(worst, std::fabs(change(actual) - change(expected)));
      idle = idle && change(expected) == 0;
      touched = touched || change(actual) != 0;
      astray += i - row >= p.vector_size && change(actual) != 0;
    }
    astray += idle && touched;
  }
  CHECK(worst <= 0.02 * most + 4e-3);
  CHECK(astray == 0);
}

void compare(const Options& options, unsigned seed) {
  Problem problem(options, seed);
  WordVectorsParams& p = problem.p;
  if (seed % 3 == 1) {
    p.begin = problem.below(static_cast<int>(p.length));
    p.end = p.begin + problem.below(static_cast<int>(p.length - p.begin + 1));
  }
  const Matrix input = problem.random_matrix(p.input_rows), output = problem.random_matrix(p.vocabulary - (p.path != nullptr));
  // The second rate is too small for any change: the losses are of the same matrices.
  for (const double rate : {0x1p-14, 0x1p-60}) {
    p.rate = rate;
    p.rate_step = rate / static_cast<double>(p.length);
    Matrix inputs[2] = {input, input}, outputs[2] = {output, output};
    double totals[2][3] = {{1, 2, 3}, {1, 2, 3}};
    for (int device = 0; device < 2; ++device) {
      p.input = inputs[device].data();
      p.output = outputs[device].data();
      p.totals = totals[device];
      if (device == 0) {
        cpu::train_word_vectors(p);
        continue;
      }
      problem.declare_all();
      CHECK(launch_train_word_vectors(p, nullptr) == cudaSuccess);
    }
    check_changes(p, input, inputs[0], inputs[1]);
    check_changes(p, output, outputs[0], outputs[1]);
    CHECK(std::fabs(totals[0][0] - totals[1][0]) <= (rate < 0x1p-50 ? 2e-6 : 1e-3) * totals[0][0]);
    CHECK(totals[0][1] == totals[1][1] && totals[0][2] == totals[1][2]);
  }
  if (test::failed_checks > 0) {
    std::fprintf(stderr, "seed %u: vector_size %ld, window %d, negatives %d, cbow %d, shared %d, path %d, subwords %d\n", seed,
                 static_cast<long>(options.vector_size), options.window, options.negatives, options.cbow, options.shared,
                 options.path, options.subwords);
    std::exit(1);
  }
}

// Rows, lists and draws that lie outside, and offsets that make no sense: nothing outside is touched, or the launch fails.
void run_out_of_range(const Options& options, unsigned seed) {
  Problem problem(options, seed);
  WordVectorsParams& p = problem.p;
  const auto spoil = [&](auto& values, auto most) {
    for (auto& value : values)
      if (problem.below(3) == 0) value = problem.below(2) ? most - problem.below(3) : -1 - problem.below(3);
  };
  spoil(problem.ids, int32_t{0x7FFFFFFF});
  spoil(problem.subwords, int32_t{0x7FFFFFFF});
  spoil(problem.path, int32_t{0x7FFFFFFF});
  spoil(problem.subword_offsets, int64_t{1} << 62);
  spoil(problem.path_offsets, int64_t{1} << 62);
  for (auto& bucket : problem.noise)
    if (problem.below(3) == 0) bucket = {0, problem.below(2) ? 0x7FFFFFFF : -problem.below(3)};
  p.rate = 0.01;
  Matrix input = problem.random_matrix(p.input_rows), output = problem.random_matrix(p.vocabulary - (p.path != nullptr));
  double totals[3] = {};
  p.input = input.data();
  p.output = output.data();
  p.totals = totals;
  problem.declare_all();
  CHECK(launch_train_word_vectors(p, nullptr) == cudaSuccess);
  CHECK(std::isfinite(totals[0]));
}

}  // namespace

int main() {
  unsigned seed = 0;
  for (const bool cbow : {false, true})
    for (const bool path : {false, true})
      for (const bool subwords : {false, true})
        for (const int window : {1, 3, 5}) {
          Options o;
          o.cbow = cbow;
          o.path = path;
          o.subwords = subwords;
          o.window = window;
          o.mean = seed % 2 == 0;
          o.exact = seed % 5 < 3;
          o.shared = seed % 3 == 0;
          o.subsample = seed % 4 < 3;
          o.shrink_windows = seed % 3 < 2;
          o.vector_size = 1 + static_cast<int64_t>(seed * 37 % 60);
          compare(o, seed++);
          o.length = 70;
          run_out_of_range(o, seed++);
        }
  for (const int64_t size : {1, 4, 127, 128, 129, 256, 257, 384, 385, 900})
    for (const bool shared : {false, true}) {
      Options o;
      o.vector_size = size;
      o.shared = shared;
      o.cbow = shared && size % 2 == 0;
      o.length = size > 300 ? 40 : 70;
      compare(o, seed++);
    }
  // Groups of output rows, draws and contexts beyond what is held at a time.
  for (const int negatives : {1, 7, 8, 40, 200})
    for (const bool shared : {false, true}) {
      Options o;
      o.negatives = negatives;
      o.shared = shared;
      o.length = 40;
      compare(o, seed++);
    }
  for (const int window : {33, 70, 1000})
    for (const bool cbow : {false, true})
      for (const bool shared : {false, true}) {
        Options o;
        o.window = window;
        o.cbow = cbow;
        o.shared = shared;
        o.shrink_windows = window < 1000;
        o.sentence = 1000;
        o.length = 110;
        o.negatives = 2;
        compare(o, seed++);
      }
  Options o;
  o.vocabulary = 2000;  // of which the grid has many blocks
  o.length = 600;
  o.window = 2;
  compare(o, seed++);
  for (const int64_t length : {0, 1, 2, 31, 32, 33, 64, 128, 129}) {
    o.length = length;
    compare(o, 3 * (seed++));
  }
  return test::failures();
}
