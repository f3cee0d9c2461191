// The kernels that time how blocks hand on data (bench/synchronisation.cuh), run on the host: each word arrives in its step.
#include <vector>

#include "../../bench/synchronisation.cuh"
#include "check.h"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;

constexpr int kThreads = 64, kOrders = 5, kManyOrders = 100;  // random orders that a kernel is run in

template <class Kernel>
bool arrives(Kernel kernel, const Launch& how, int64_t vectors, int64_t steps, uint64_t orders = kOrders) {
  const auto threads = static_cast<size_t>(how.threads), blocks = static_cast<size_t>(how.grid.x);
  const auto expected = expected_sums(vectors, how.cluster > 1 ? how.cluster : how.grid.x, steps, how.threads);
  struct alignas(kVectorBytes) Vector {
    uint32_t words[kWordsOfVector];
  };
  for (uint64_t seed = 1; seed <= orders; ++seed) {
    std::vector<Vector> words(how.cluster > 1 ? 0 : static_cast<size_t>(2 * vectors)), arrived(1);
    std::vector<uint32_t> sums(threads * blocks, 1);
    host::set_seed(seed);
    host::forget_buffers();
    host::declare_buffer(words.data(), words.size() * sizeof(Vector));
    host::declare_buffer(arrived.data(), sizeof(Vector));
    host::declare_buffer(sums.data(), sums.size() * sizeof(uint32_t));
    const ExchangeParams p{steps, vectors, words.empty() ? nullptr : words[0].words, reinterpret_cast<int*>(arrived[0].words),
                           sums.data()};
    if (launch(kernel, how, p) != cudaSuccess) return false;
    for (size_t i = 0; i < sums.size(); ++i)
      if (sums[i] != expected[i % threads]) return false;
  }
  return true;
}

bool arrives(Way way, int64_t blocks, int cluster, int64_t vectors, int64_t steps) {
  const Launch how = exchange_launch(way, blocks, cluster, vectors, kThreads, nullptr);
  return with_exchange_kernel(way, [&](auto kernel) { return arrives(kernel, how, vectors, steps) ? cudaSuccess : 1; }) ==
         cudaSuccess;
}

void test_words_arrive_in_every_way() {
  constexpr int64_t kSteps = 9;
  for (const Way way : {Way::grid_barrier, Way::atomic_barrier, Way::polled})
    for (const int64_t vectors : {0, 7, 64, 700}) {  // none; fewer than threads; as many; more than are taken at once
      if (way == Way::polled && vectors == 0) continue;
      CHECK(arrives(way, 6, 1, vectors, kSteps));
    }
  for (const int64_t vectors : {0, 7, 700}) {
    CHECK(arrives(Way::cluster, 4, 4, vectors, kSteps));
    CHECK(arrives(Way::cluster, 8, 4, vectors, kSteps));  // clusters that know nothing of each other
  }
  CHECK(arrives(Way::cluster, 16, 16, 50, kSteps));
}

// A warp that writes nothing may fall behind the others, whose words it still has to read.
void test_words_stay_until_all_have_read_them() {
  const Launch how = exchange_launch(Way::polled, 6, 1, 40, kThreads, nullptr);
  CHECK(arrives(exchange_words<ThroughMemory<Way::polled>>, how, 40, 9, kManyOrders));
}

// What the sums are worth: steps that hand on anything but the right words have others.
void test_sums_follow_from_every_step() {
  const auto sums = expected_sums(8, 2, 5, 4);
  CHECK(sums != expected_sums(8, 2, 4, 4));
  CHECK(expected_sums(0, 2, 5, 4) == std::vector<uint32_t>(4));
  for (int64_t step = 0; step < 8; ++step) CHECK(mark_of(step) != mark_of(step + 2));
  CHECK(mark_of(0) == 1 && mark_of(1) == 1);  // arrays begin as zeros
}

// Twins with a bug are found.
template <class Through>
struct Hasty : Through {
  static constexpr bool kPolls = false;
  SEQKERN_DEVICE bool is_there(const Words&, int64_t) const { return true; }
  SEQKERN_DEVICE void pass(int64_t, int64_t, const Piece&) const {}
};

void test_a_way_that_does_not_wait_is_found() {
  const Launch how = exchange_launch(Way::polled, 6, 1, 64, kThreads, nullptr);
  CHECK(arrives(exchange_words<ThroughMemory<Way::polled>>, how, 64, 9));
  CHECK(!arrives(exchange_words<Hasty<ThroughMemory<Way::polled>>>, how, 64, 9));
  CHECK(!arrives(exchange_words<Hasty<ThroughMemory<Way::grid_barrier>>>, how, 64, 9));
  CHECK(!arrives(exchange_words<Hasty<ThroughMemory<Way::atomic_barrier>>>, how, 64, 9));
  CHECK(!arrives(exchange_words<Hasty<ThroughCluster>>, exchange_launch(Way::cluster, 4, 4, 64, kThreads, nullptr), 64, 9));
}

}  // namespace

int main() {
  test_words_arrive_in_every_way();
  test_words_stay_until_all_have_read_them();
  test_sums_follow_from_every_step();
  test_a_way_that_does_not_wait_is_found();
  return test::failures();
}
