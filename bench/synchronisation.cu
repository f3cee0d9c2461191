// Times the kernels of synchronisation.cuh on the current device, and writes a line of JSON for each to stdout: the way, blocks,
// blocks of a cluster, bytes that are handed on in a step, microseconds a step (the median of some launches, the least and the
// greatest), and what the choice of kernels expects of it. Every launch's sums are checked; the exit status is 1 where some were
// wrong.
#include "synchronisation.cuh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <vector>

#include "cuda/recurrent_plan.cu"

namespace {

using namespace seqkern::cuda;

constexpr int64_t kSteps = 2000;
constexpr int kLaunches = 7;                          // after one to warm up
constexpr int64_t kKibibytes[] = {0, 3, 12, 48, 96};  // of H N values; the recurrence of H = 768, N = 16 in bf16 has 24
constexpr int64_t kBlocks[] = {48, 96};               // and as many as there are multiprocessors
constexpr int kClusters[] = {8, 16};                  // 16: not portable
constexpr const char* kNames[] = {"grid barrier", "atomic barrier", "polled", "cluster barrier"};  // of Way

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

// Memory of the device.
template <class T>
class Array {
 public:
  explicit Array(size_t count) : bytes_(count * sizeof(T)) { check(cudaMalloc(&begin_, std::max<size_t>(bytes_, 16)), "malloc"); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(begin_); }

  T* begin() const { return static_cast<T*>(begin_); }
  void clear() const { check(cudaMemset(begin_, 0, bytes_), "memset"); }
  bool equals(const std::vector<T>& expected) const {  // repeated
    std::vector<T> found(bytes_ / sizeof(T));
    check(cudaMemcpy(found.data(), begin_, bytes_, cudaMemcpyDeviceToHost), "memcpy");
    for (size_t i = 0; i < found.size(); ++i)
      if (found[i] != expected[i % expected.size()]) return false;
    return true;
  }

 private:
  void* begin_ = nullptr;
  size_t bytes_;
};

// Microseconds of a step by cuda/recurrent_plan.cu, where it knows the way: the exchange of a recurrence of eight sequences in
// bf16, whose state is so many bytes. Less than 0: unknown.
double estimate(Way way, int64_t blocks, int cluster, int64_t bytes, const DeviceLimits& limits) {
  if (way != Way::polled && way != Way::cluster) return -1;
  constexpr int kSequences = 8, kElementBytes = 2;
  const int64_t hidden_size = std::max<int64_t>(bytes / (kSequences * kElementBytes), 1);
  const int64_t of_one = way == Way::cluster ? cluster : blocks;
  const RecurrentKernel kernel = way == Way::cluster ? RecurrentKernel::cluster : RecurrentKernel::grid;
  const RecurrentPlan plan{kernel, static_cast<int>((hidden_size + of_one - 1) / of_one), 1, kSequences};
  const RecurrentRequest request{1, false, kElementBytes, kSteps, kSequences, blocks / of_one, hidden_size, false, false, false};
  const RecurrentStepTime time = predict(plan, request, limits);
  return bytes > 0 ? time.exchange + time.gather : time.exchange;
}

// Whether all sums were right.
bool measure(Way way, int64_t blocks, int cluster, int64_t bytes, const DeviceLimits& limits, cudaEvent_t start,
             cudaEvent_t end) {
  const int64_t vectors = bytes / kVectorBytes, writers = way == Way::cluster ? cluster : blocks;
  const Array<uint32_t> words(static_cast<size_t>(way == Way::cluster ? 0 : 2 * vectors * kWordsOfVector)),
      sums(static_cast<size_t>(blocks * kExchangeThreads));
  const Array<int> arrived(4);
  const ExchangeParams p{kSteps, vectors, words.begin(), arrived.begin(), sums.begin()};
  const Launch how = exchange_launch(way, blocks, cluster, vectors, kExchangeThreads, nullptr);
  const auto expected = expected_sums(vectors, writers, kSteps, kExchangeThreads);
  std::vector<float> times;
  bool right = true;
  for (int i = 0; i <= kLaunches; ++i) {
    words.clear();
    arrived.clear();
    sums.clear();
    check(cudaEventRecord(start), "record");
    check(with_exchange_kernel(way, [&](auto kernel) { return launch(kernel, how, p); }), "launch");
    check(cudaEventRecord(end), "record");
    check(cudaEventSynchronize(end), kNames[static_cast<int>(way)]);
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, end), "elapsed time");
    if (i > 0) times.push_back(milliseconds * 1e3f / kSteps);
    right = right && sums.equals(expected);
  }
  std::sort(times.begin(), times.end());
  std::printf(
      "{\"way\": \"%s\", \"blocks\": %ld, \"cluster\": %d, \"bytes\": %ld, \"us\": %.4f, \"least\": %.4f, \"greatest\": %.4f, "
      "\"estimate\": %.4f, \"right\": %s}\n",
      kNames[static_cast<int>(way)], static_cast<long>(blocks), cluster, static_cast<long>(bytes), times[times.size() / 2],
      times.front(), times.back(), estimate(way, blocks, cluster, bytes, limits), right ? "true" : "false");
  std::fflush(stdout);
  return right;
}

}  // namespace

int main() {
  DeviceLimits limits;
  check(device_limits(limits), "device");
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&end), "event");
  // How many blocks can run at once.
  const auto room = [&](Way way, int cluster, int64_t bytes) {
    int64_t blocks = 0;
    const Launch how = exchange_launch(way, cluster, cluster, bytes / kVectorBytes, kExchangeThreads, nullptr);
    check(with_exchange_kernel(way, [&](auto kernel) { return resident_blocks(kernel, how, blocks); }), "occupancy");
    return blocks;
  };
  bool right = true;
  for (const int64_t kibibytes : kKibibytes) {
    const int64_t bytes = kibibytes << 10;
    for (const Way way : {Way::grid_barrier, Way::atomic_barrier, Way::polled}) {
      if (way == Way::polled && bytes == 0) continue;
      const int64_t most = room(way, 1, bytes);
      for (const int64_t blocks : {kBlocks[0], kBlocks[1], static_cast<int64_t>(limits.multiprocessors)})
        if (blocks <= most && (way != Way::polled || blocks <= bytes / kVectorBytes))
          right &= measure(way, blocks, 1, bytes, limits, start, end);
    }
    if (limits.capability < 90) continue;
    for (const int cluster : kClusters) {
      // Alone, and as many clusters as there is room for at once, a block a multiprocessor.
      const int64_t most = std::min<int64_t>(room(Way::cluster, cluster, bytes), limits.multiprocessors / cluster * cluster);
      for (const int64_t blocks : std::set<int64_t>{cluster, most})
        if (blocks > 0 && blocks <= most) right &= measure(Way::cluster, blocks, cluster, bytes, limits, start, end);
    }
  }
  check(cudaEventDestroy(start), "event");
  check(cudaEventDestroy(end), "event");
  return right ? 0 : 1;
}
