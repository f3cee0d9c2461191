// The time-softmax loss on CUDA: the mean over rows of -log softmax(logits)[target], and its gradient, in one call.
//
//   loss_r = log(sum_v exp(x_v - max)) + max - x_target        d x_v = (softmax(x)_v - [v = target]) / count
//
// Three launches: count the rows that count; a block a row; the mean. A block reads its row once for the maximum and the sum of
// exponentials together (each thread rescales its sum whenever its maximum grows), and a second time, from the caches, for the
// gradient; that pass runs backwards, since what was read last is the likeliest to be there still.
//
// All sums run in an order fixed by the sizes: results are the same bits in every run. NaN and infinite logits go the way of
// IEEE arithmetic: the row's loss becomes NaN, as torch's does.
#include "cuda/softmax.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "cuda/reduce.cuh"
#include "math/primitives.h"

namespace seqkern::cuda {
namespace {

constexpr int kMaxThreads = 1024;
template <class T>
constexpr int kMaxRowThreads = sizeof(T) == 8 ? 512 : kMaxThreads;  // float64 needs more registers a thread

template <class V>
SEQKERN_DEVICE V block_sum(V value) {
  return block_reduce(value, V(0), [](V a, V b) { return a + b; });
}

template <class V>
SEQKERN_DEVICE V block_max(V value) {
  return block_reduce(value, -std::numeric_limits<V>::infinity(), [](V a, V b) { return a > b ? a : b; });
}

// A row as the threads of a block share it: vectors of kWidth elements where it is aligned to them, [begin, end), and single
// elements before and after.
template <int kWidth>
struct RowWalk {
  int64_t size, begin, end;

  template <class T>
  SEQKERN_DEVICE RowWalk(const T* row, int64_t row_size) : size(row_size) {
    const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % kWidth);  // elements past alignment
    const int64_t before = past == 0 ? 0 : kWidth - past;
    begin = before < size ? before : size;
    end = begin + (size - begin) / kWidth * kWidth;
  }

  // Calls body(v, n) for the thread's parts of the row: n (known to the compiler) elements from v.
  template <class Body>
  SEQKERN_DEVICE void forwards(const Body& body) const {
    for (int64_t v = begin + thread_index() * kWidth; v < end; v += block_size() * kWidth) body(v, Count<kWidth>());
    single_elements(body);
  }

  // As forwards, but from the end of the row; a thread's parts are others.
  template <class Body>
  SEQKERN_DEVICE void backwards(const Body& body) const {
    single_elements(body);
    for (int64_t v = end - (thread_index() + 1) * kWidth; v >= begin; v -= block_size() * kWidth) body(v, Count<kWidth>());
  }

 private:
  template <int n>
  using Count = std::integral_constant<int, n>;

  template <class Body>
  SEQKERN_DEVICE void single_elements(const Body& body) const {
    for (int64_t v = thread_index(); v < begin; v += block_size()) body(v, Count<1>());
    for (int64_t v = end + thread_index(); v < size; v += block_size()) body(v, Count<1>());
  }
};

// The maximum (peak) of the values seen so far, and the sum of exp(x - base()).
template <class S>
struct OnlineSum {
  S peak = -std::numeric_limits<S>::infinity();
  S sum = 0;

  // The peak, except that -inf, of which no value can be told apart, stands for itself: exp(-inf - 0) = 0, not NaN.
  static SEQKERN_DEVICE S base(S of) { return of == -std::numeric_limits<S>::infinity() ? S(0) : of; }

  template <int n>
  SEQKERN_DEVICE void add(const Vector<S, n>& x) {
    const S old = peak;
    for (int i = 0; i < n; ++i) peak = x.at[i] > peak ? x.at[i] : peak;
    sum *= math::exp_value(old - base(peak));
    for (int i = 0; i < n; ++i) sum += math::exp_value(x.at[i] - base(peak));
  }

  // Over all threads of the block.
  SEQKERN_DEVICE void combine() {
    const S own = peak;
    peak = block_max(peak);
    sum = block_sum(sum * math::exp_value(own - base(peak)));
  }
};

template <class T>
SEQKERN_KERNEL(kMaxThreads)
count_rows(SoftmaxLossCudaParams<T, Sum<T>> p) {
  int64_t count = 0;
  SEQKERN_UNROLL(8)
  for (int64_t r = thread_index(); r < p.rows; r += block_size()) count += p.target[r] != p.ignore_index;
  count = block_sum(count);
  if (thread_index() == 0) *p.count = count;
}

template <int kWidth, class T>
SEQKERN_DEVICE void fill_row(T* row, int64_t size, Sum<T> value) {
  RowWalk<kWidth>(row, size).forwards([&](int64_t v, auto count) {
    Vector<Sum<T>, count> x;
    for (int i = 0; i < count; ++i) x.at[i] = value;
    store_streaming(row + v, x);
  });
}

// kWidth > 1: rows of logits and of d_logits are aligned alike (vectors_fit).
template <class T, int kWidth>
SEQKERN_KERNEL(kMaxRowThreads<T>)
rows_loss(SoftmaxLossCudaParams<T, Sum<T>> p) {
  using S = Sum<T>;
  const S scale = S(1) / static_cast<S>(*p.count);  // used only where a row counts
  for (int64_t r = block_index(); r < p.rows; r += block_count()) {
    const int64_t target = p.target[r];
    const T* row = p.logits + r * p.classes;
    T* d_row = p.d_logits ? p.d_logits + r * p.classes : nullptr;
    if (target == p.ignore_index || target < 0 || target >= p.classes) {
      const S value = target == p.ignore_index ? S(0) : std::numeric_limits<S>::quiet_NaN();
      if (thread_index() == 0) p.row_loss[r] = value;
      if (d_row) fill_row<kWidth>(d_row, p.classes, value);
      continue;
    }

    const RowWalk<kWidth> walk(row, p.classes);
    OnlineSum<S> online;
    walk.forwards([&](int64_t v, auto count) { online.add(load<count>(row + v)); });
    online.combine();
    if (thread_index() == 0) p.row_loss[r] = std::log(online.sum) + (online.peak - to_sum(row[target]));
    if (!d_row) continue;

    const S base = online.base(online.peak), factor = scale / online.sum;
    walk.backwards([&](int64_t v, auto count) {
      auto x = load<count>(row + v);
      for (int i = 0; i < count; ++i) x.at[i] = math::exp_value(x.at[i] - base) * factor - (v + i == target ? scale : S(0));
      store_streaming(d_row + v, x);
    });
  }
}

template <class T>
SEQKERN_KERNEL(kMaxThreads)
mean_loss(SoftmaxLossCudaParams<T, Sum<T>> p) {
  double sum = 0;
  SEQKERN_UNROLL(8)
  for (int64_t r = thread_index(); r < p.rows; r += block_size()) sum += static_cast<double>(p.row_loss[r]);
  sum = block_sum(sum);
  const int64_t count = *p.count;
  if (thread_index() == 0) *p.loss = static_cast<Sum<T>>(count ? sum / static_cast<double>(count) : 0.0);
}

// Whether each row of d_logits lies like the same row of logits to a vector's alignment.
template <class T>
bool vectors_fit(const SoftmaxLossCudaParams<T, Sum<T>>& p) {
  const auto past = [](const T* q) { return reinterpret_cast<uintptr_t>(q) % kVectorBytes; };
  return !p.d_logits || past(p.logits) == past(p.d_logits);
}

// Threads enough for the row in four vectors each, in whole warps.
template <class T>
int threads_for(int64_t classes) {
  int threads = 2 * kWarpSize;
  while (threads < kMaxRowThreads<T> && threads * 4 * kVectorBytes < classes * static_cast<int64_t>(sizeof(T))) threads *= 2;
  return threads;
}

}  // namespace

template <class T>
cudaError_t launch_softmax_loss(const SoftmaxLossCudaParams<T, Sum<T>>& params, cudaStream_t stream) {
  constexpr int kWidth = kVectorBytes / sizeof(T);
  cudaError_t error = launch(count_rows<T>, {{1, 1}, kMaxThreads, stream}, params);
  if (error == cudaSuccess && params.rows > 0)
    error = launch(vectors_fit(params) ? rows_loss<T, kWidth> : rows_loss<T, 1>,
                   {{params.rows, 1}, threads_for<T>(params.classes), stream}, params);
  if (error == cudaSuccess) error = launch(mean_loss<T>, {{1, 1}, kMaxThreads, stream}, params);
  return error;
}

#define SEQKERN_INSTANTIATE(T) template cudaError_t launch_softmax_loss(const SoftmaxLossCudaParams<T, Sum<T>>&, cudaStream_t);

SEQKERN_INSTANTIATE(float)
SEQKERN_INSTANTIATE(double)
SEQKERN_INSTANTIATE(math::BFloat16)
SEQKERN_INSTANTIATE(Float16)

}  // namespace seqkern::cuda
