// The host executor (tests/cuda_host): what its primitives compute, and that it finds the bugs it is there to find. Each kernel
// with a planted bug has a twin without.
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/device.cuh"
#include "cuda/reduce.cuh"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;

constexpr int kOrders = 40;  // random orders that a kernel is run in

// Arrays that a test's kernel uses as it likes.
struct Arrays {
  int64_t n = 0;
  const float* x = nullptr;
  float* y = nullptr;
  int* i = nullptr;
  uint32_t* words = nullptr;
  int64_t option = 0;
};

template <class V>
void declare(std::vector<V>& values) {
  host::declare_buffer(values.data(), values.size() * sizeof(V));
}

// Whether the launch fails, with a report that has the text in it.
template <class Params>
bool is_caught(void (*kernel)(Params), const Launch& how, const Params& params, const std::string& text) {
  for (uint64_t seed = 1; seed <= kOrders; ++seed) {
    host::set_seed(seed);
    if (launch(kernel, how, params) == cudaSuccess) continue;
    if (std::strstr(host::last_report(), text.c_str())) return true;
    std::fprintf(stderr, "expected a report of: %s\n", text.c_str());
    return false;
  }
  return false;
}

template <class Params>
bool passes(void (*kernel)(Params), const Launch& how, const Params& params) {
  for (uint64_t seed = 1; seed <= kOrders; ++seed) {
    host::set_seed(seed);
    if (launch(kernel, how, params) != cudaSuccess) return false;
  }
  return true;
}

std::string at_line(int line) { return ":" + std::to_string(line); }

// --- what primitives compute ---

SEQKERN_KERNEL(128) shuffles(Arrays p) {
  const int lane = lane_index(), thread = static_cast<int>(thread_index());
  p.i[thread] = shuffle(thread, (lane + 5) % kWarpSize);
  p.i[128 + thread] = shuffle_xor(thread, 3);
  p.i[256 + thread] = any_of_warp(warp_index() == 1 && lane == 7);
  p.i[384 + thread] = all_of_warp(warp_index() == 1 || lane != 7);
  const double whole = shuffle(1.0 / (1 + thread), 0);
  p.i[512 + thread] = whole == 1.0 / (1 + thread - lane);
  p.i[640 + thread] = static_cast<int>(ballot(lane % 8 == warp_index() || lane == 31));
}

void test_warps() {
  std::vector<int> found(768);
  host::forget_buffers();
  declare(found);
  Arrays p;
  p.i = found.data();
  CHECK(passes(shuffles, {{1, 1}, 128, nullptr}, p));
  for (int t = 0; t < 128; ++t) {
    const auto at = [&](int operation) { return found[static_cast<size_t>(operation * 128 + t)]; };
    CHECK(at(0) == t / 32 * 32 + (t + 5) % 32);
    CHECK(at(1) == (t ^ 3));
    CHECK(at(2) == (t / 32 == 1));
    CHECK(at(3) == (t / 32 == 1));
    CHECK(at(4) == 1);
    CHECK(static_cast<uint32_t>(at(5)) == (0x01010101u << t / 32 | 0x80000000u));
  }
  CHECK(count_bits(0) == 0 && count_bits(0x80000101) == 3);
  CHECK(lowest_bit(0) == -1 && lowest_bit(0x80000100) == 8 && highest_bit(0) == -1 && highest_bit(0x80000100) == 31);
  CHECK(is_caught(shuffles, {{1, 1}, 100, nullptr}, p, "shuffle"));  // not of whole warps
}

SEQKERN_KERNEL(256) sums(Arrays p) {
  float sum = 0;
  for (int64_t i = thread_index(); i < p.n; i += block_size()) sum += p.x[block_index() * p.n + i];
  for (int times = 0; times < 3; ++times) {
    const float total = block_reduce(sum, 0.0f, [](float a, float b) { return a + b; });
    if (thread_index() == 0) p.y[block_index()] = total;
    p.y[block_count() + block_index() * block_size() + thread_index()] = total;
  }
}

void test_block_reduce() {
  std::vector<float> x(3 * 1000), y(3 + 3 * 256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  host::forget_buffers();
  declare(x);
  host::declare_uninitialized(y.data(), y.size() * sizeof(float));
  Arrays p;
  p.n = 1000;
  p.x = x.data();
  p.y = y.data();
  CHECK(passes(sums, {{3, 1}, 256, nullptr}, p));
  for (size_t block = 0; block < 3; ++block) {
    float sum = 0;
    for (size_t i = 0; i < 1000; ++i) sum += x[block * 1000 + i];
    CHECK(y[block] == sum && y[3 + 256 * block + 255] == sum);
  }
}

template <class T>
struct Product {
  const uint32_t *a, *b;  // [16, 8] and [8, 8] words
  float* d;               // [16, 8]
};

template <class T>
SEQKERN_KERNEL(kWarpSize)
multiply(Product<T> p) {
  const int g = lane_index() / 4, w = lane_index() % 4;
  const uint32_t a[4] = {p.a[g * 8 + w], p.a[(g + 8) * 8 + w], p.a[g * 8 + w + 4], p.a[(g + 8) * 8 + w + 4]};
  const uint32_t b[2] = {p.b[g * 8 + w], p.b[g * 8 + w + 4]};
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = p.d[(g + i / 2 * 8) * 8 + 2 * w + i % 2];
  for (int times = 0; times < 2; ++times) multiply_add(T(), d, a, b);
  for (int i = 0; i < 4; ++i) p.d[(g + i / 2 * 8) * 8 + 2 * w + i % 2] = d[i];
}

// words(x, i): x as number i of a row of words.
template <class T, class Words, class Value>
void test_multiply_add(int size, const Words& put, const Value& value) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<uint32_t> a(16 * 8), b(8 * 8);
  std::vector<float> d(16 * 8);
  const auto n = static_cast<size_t>(size);
  for (size_t i = 0; i < 16 * n; ++i) put(&a[i / n * 8], i % n, normal(random));
  for (size_t i = 0; i < 8 * n; ++i) put(&b[i / n * 8], i % n, normal(random));
  for (float& x : d) x = normal(random);
  std::vector<double> expected(d.begin(), d.end());
  for (size_t row = 0; row < 16; ++row)
    for (size_t column = 0; column < 8; ++column)
      for (size_t k = 0; k < n; ++k) expected[row * 8 + column] += 2 * value(&a[row * 8], k) * value(&b[column * 8], k);
  host::forget_buffers();
  declare(a);
  declare(b);
  declare(d);
  CHECK(launch(multiply<T>, {{1, 1}, kWarpSize, nullptr}, Product<T>{a.data(), b.data(), d.data()}) == cudaSuccess);
  for (size_t i = 0; i < d.size(); ++i) CHECK(std::fabs(static_cast<double>(d[i]) - expected[i]) < 1e-5);
}

template <class T>
void test_multiply_add_of_halves() {
  const auto put = [](uint32_t* words, size_t i, float x) {
    T half;
    from_sum(x, half);
    words[i / 2] |= static_cast<uint32_t>(half.bits) << (16 * (i % 2));
  };
  const auto value = [](const uint32_t* words, size_t i) {
    return static_cast<double>(to_sum(T{static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2)))}));
  };
  test_multiply_add<T>(16, put, value);
}

void test_matrix_units() {
  test_multiply_add_of_halves<BFloat16>();
  test_multiply_add_of_halves<Float16>();
  // The low bits are not read.
  const auto put = [](uint32_t* words, size_t i, float x) { words[i] = round_to_tf32(x) | 0x123; };
  const auto value = [](const uint32_t* words, size_t i) {
    const uint32_t bits = words[i] & ~0x1FFFu;
    float x;
    std::memcpy(&x, &bits, sizeof(x));
    return static_cast<double>(x);
  };
  test_multiply_add<Tf32>(8, put, value);
}

// Every float16 goes there and back; what lies half way rounds to even.
void test_conversions() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Float16 x{static_cast<uint16_t>(bits)};
    Float16 y;
    from_sum(to_sum(x), y);
    CHECK(x.bits == y.bits || (std::isnan(to_sum(x)) && std::isnan(to_sum(y))));
    const Float16 next{static_cast<uint16_t>(bits + 1)};
    if ((bits & 0x7FFF) >= 0x7BFF) continue;
    from_sum((to_sum(x) + to_sum(next)) / 2, y);
    CHECK(y.bits == (bits % 2 == 0 ? x.bits : next.bits));
  }
  CHECK(to_sum(Float16{0x3C00}) == 1.0f && to_sum(Float16{0x0001}) == 0x1p-24f && to_sum(Float16{0x7BFF}) == 65504.0f);
  Float16 y;
  from_sum(65519.0f, y);
  CHECK(y.bits == 0x7BFF);
  from_sum(65520.0f, y);
  CHECK(y.bits == 0x7C00);
}

SEQKERN_KERNEL(64) count(Arrays p) { p.i[1 + atomic_add(p.i, 1)] = static_cast<int>(block_index()); }

void test_atomic_add() {
  std::vector<int> found(1 + 4 * 64);
  host::forget_buffers();
  declare(found);
  Arrays p;
  p.i = found.data();
  CHECK(launch(count, {{4, 1}, 64, nullptr}, p) == cudaSuccess);
  CHECK(found[0] == 4 * 64);
  CHECK(std::multiset<int>(found.begin() + 1, found.end()).count(3) == 64);
}

// Two blocks add to the same numbers and read them. option, by bits: an addition or a read that is not coherent.
SEQKERN_KERNEL(64) add_floats(Arrays p) {
  auto* const numbers = reinterpret_cast<float*>(p.words);
  const int64_t i = thread_index() % 4 * 4;
  add_coherent(numbers + i, {1, 2, 3, 4});
  add_coherent(reinterpret_cast<double*>(numbers + 16), 0.5);
  if (p.option & 1) numbers[i] += 1;
  float seen;
  if (p.option & 2) {
    seen = numbers[i];
  } else {
    const Words words = load_coherent(numbers + i);
    std::memcpy(&seen, words.at, sizeof(seen));
  }
  p.y[block_index() * block_size() + thread_index()] = seen;
}

void test_add_coherent() {
  struct alignas(16) Numbers {
    float at[16];
    double one;
  };
  std::vector<Numbers> numbers(1);
  std::vector<float> seen(128);
  host::forget_buffers();
  declare(numbers);
  declare(seen);
  Arrays p;
  p.words = reinterpret_cast<uint32_t*>(numbers.data());
  p.y = seen.data();
  const Launch how{{2, 1}, 64, nullptr}, cooperative{{2, 1}, 64, nullptr, 0, 1, true};  // of which blocks run at once
  CHECK(passes(add_floats, cooperative, p));
  for (int i = 0; i < 16; ++i) CHECK(numbers[0].at[i] == static_cast<float>(kOrders * 32 * (1 + i % 4)));
  CHECK(numbers[0].one == kOrders * 64.0);
  p.option = 1;
  CHECK(is_caught(add_floats, how, p, "race: a write"));
  p.option = 2;
  CHECK(is_caught(add_floats, how, p, "race: a "));
  p.option = 0;
  p.words += 1;
  CHECK(is_caught(add_floats, how, p, "misaligned: 16 bytes"));
}

// --- memory ---

// option: how far beyond.
SEQKERN_KERNEL(32) copies(Arrays p) {
  if (thread_index() < p.n) p.y[thread_index() + p.option] = p.x[thread_index()];
}

SEQKERN_KERNEL(32) vectors(Arrays p) {
  if (thread_index() == 0) store_streaming(p.y, load<4>(p.x + p.option));
}

SEQKERN_KERNEL(64) shared_bounds(Arrays p) {
  SEQKERN_SHARED(float, values, 64);
  SEQKERN_SHARED(float, others, 64);
  values[thread_index() + p.option] = 1;
  others[thread_index()] = 2;
  auto* const dynamic = reinterpret_cast<float*>(dynamic_shared());
  dynamic[thread_index() + p.n] = 3;
  sync_block();
  p.y[thread_index()] = values[thread_index()] + others[thread_index()] + dynamic[thread_index() + p.n];
}

SEQKERN_KERNEL(64) shared_written(Arrays p) {
  SEQKERN_SHARED(float, values, 64);
  if (thread_index() != p.option) values[thread_index()] = 1;
  sync_block();
  p.y[thread_index()] = values[63 - thread_index()];
}

void test_memory() {
  struct alignas(16) Aligned {
    float at[64];
  };
  std::vector<Aligned> x(1), y(1);
  Arrays p;
  p.n = 32;
  p.x = x[0].at;
  p.y = y[0].at;
  const Launch one{{1, 1}, 32, nullptr}, two{{3, 1}, 64, nullptr, 64 * sizeof(float)};
  host::forget_buffers();
  CHECK(is_caught(copies, one, p, "no buffers are declared"));
  host::declare_buffer(x[0].at, 32 * sizeof(float));
  CHECK(is_caught(copies, one, p, "out of bounds: a write of 4 bytes"));
  host::declare_buffer(y[0].at, 32 * sizeof(float));
  CHECK(passes(copies, one, p));
  p.option = 1;
  CHECK(is_caught(copies, one, p, "out of bounds: a write of 4 bytes"));
  p.option = 0;
  host::forget_buffers();
  host::declare_buffer(x[0].at, 31 * sizeof(float));
  host::declare_buffer(y[0].at, 32 * sizeof(float));
  CHECK(is_caught(copies, one, p, "out of bounds: a read of 4 bytes"));
  p.n = 31;
  CHECK(passes(copies, one, p));

  host::declare_uninitialized(x[0].at, 32 * sizeof(float));
  CHECK(is_caught(copies, one, p, "uninitialised: a read of 4 bytes"));
  CHECK(is_caught(vectors, one, p, "uninitialised"));
  CHECK(fill_bytes(x[0].at, 0, 32 * sizeof(float), nullptr) == cudaSuccess);
  CHECK(fill_bytes(x[0].at, 0, 33 * sizeof(float), nullptr) != cudaSuccess);
  CHECK(passes(copies, one, p));
  CHECK(passes(vectors, one, p));
  p.option = 1;
  CHECK(is_caught(vectors, one, p, "misaligned: 16 bytes"));

  host::forget_buffers();
  std::vector<float> shown(64);
  declare(shown);
  p.y = shown.data();
  p.n = p.option = 0;
  const Launch only{{1, 1}, 64, nullptr, 64 * sizeof(float)};
  CHECK(passes(shared_bounds, only, p) && shown[63] == 6);
  p.option = 1;
  CHECK(is_caught(shared_bounds, only, p, "out of bounds: a write of 4 bytes at offset"));
  p.option = 0;
  p.n = 1;
  CHECK(is_caught(shared_bounds, only, p, "of which 256 are dynamic"));
  p.n = 0;
  CHECK(is_caught(shared_bounds, two, p, "race: a write"));  // of the three blocks
  p.option = -1;
  CHECK(passes(shared_written, only, p));
  p.option = 5;
  CHECK(is_caught(shared_written, only, p, "uninitialised: a read of 4 bytes at offset 20"));
}

// option: whether the barrier is there. Rotates values in shared memory.
SEQKERN_KERNEL(128) rotate(Arrays p) {
  SEQKERN_SHARED(float, values, 128);
  values[thread_index()] = 0;
  sync_block();
  values[thread_index()] = p.x[thread_index()];
  if (p.option) sync_block();
  p.y[thread_index()] = values[(thread_index() + 1) % 128];
}

void test_missing_barrier() {
  std::vector<float> x(128), y(128);
  for (size_t i = 0; i < 128; ++i) x[i] = static_cast<float>(i + 1);
  host::forget_buffers();
  declare(x);
  declare(y);
  Arrays p;
  p.x = x.data();
  p.y = y.data();
  const Launch how{{1, 1}, 128, nullptr};
  CHECK(is_caught(rotate, how, p, "race: a "));
  // Without that check, results vary.
  const auto results = [&] {
    std::set<std::vector<float>> found;
    for (uint64_t seed = 1; seed <= kOrders; ++seed) {
      host::set_seed(seed);
      CHECK(launch(rotate, how, p) == cudaSuccess);
      found.insert(y);
    }
    return found.size();
  };
  host::race_checks() = false;
  CHECK(results() > 1);
  p.option = 1;
  CHECK(results() == 1 && y[127] == 1 && y[0] == 2);
  host::race_checks() = true;
  CHECK(results() == 1);
}

// --- barriers ---

constexpr int kDivergentLine = __LINE__ + 3;
SEQKERN_KERNEL(64) divergent(Arrays p) {
  if (thread_index() < p.option)
    sync_block();
  else
    sync_block();
}

constexpr int kLeavingLine = __LINE__ + 4;
SEQKERN_KERNEL(64) leaving(Arrays p) {
  sync_block();
  if (thread_index() < p.option) return;
  sync_block();
}

constexpr int kMixedLine = __LINE__ + 3;
SEQKERN_KERNEL(64) mixed(Arrays p) {
  if (thread_index() < p.option)
    sync_warp();
  else
    sync_block();
}

void test_divergence() {
  host::forget_buffers();
  const Launch how{{2, 1}, 64, nullptr};
  Arrays p;
  p.option = 64;
  CHECK(passes(divergent, how, p) && passes(mixed, how, p));
  p.option = 3;
  CHECK(is_caught(divergent, how, p, at_line(kDivergentLine)));
  CHECK(std::strstr(host::last_report(), at_line(kDivergentLine + 2).c_str()));
  CHECK(is_caught(mixed, how, p, at_line(kMixedLine)));
  CHECK(std::strstr(host::last_report(), at_line(kMixedLine + 2).c_str()));
  CHECK(is_caught(leaving, how, p, at_line(kLeavingLine)));
  p.option = 0;
  CHECK(passes(leaving, how, p));
}

// --- polls, and what blocks of a cooperative launch tell each other ---

constexpr int kPollLine = __LINE__ + 4;
SEQKERN_KERNEL(64) poll(Arrays p) {
  if (block_index() == 0) {
    if (thread_index() == 0 && p.option) store_coherent(p.words, 1);
    spin_until([&] { return all_of_warp(load_coherent(p.words).at[0] == 1); });
  } else {
    sync_block();
  }
}

// Each block hands 16 words to the next one, round by round; words that have not come are all ones.
SEQKERN_KERNEL(64) relay(Arrays p) {
  const int64_t next = (block_index() + 1) % block_count();
  constexpr int64_t kRounds = 8;
  uint32_t sum = static_cast<uint32_t>(block_index());
  for (int64_t round = 0; round < kRounds; ++round) {
    if (thread_index() < 16) store_coherent(p.words + (round * block_count() + next) * 16 + thread_index(), sum);
    Words words{};
    const uint32_t* const from = p.words + (round * block_count() + block_index()) * 16 + thread_index() % 4 * 4;
    spin_until([&] {
      words = load_coherent(from);
      bool here = true;
      for (const uint32_t word : words.at) here &= word != 0xFFFFFFFFu;
      return all_of_warp(here);
    });
    sum = words.at[0] + words.at[3];
  }
  p.i[block_index() * block_size() + thread_index()] = static_cast<int>(sum);
}

// As relay, but what is handed on is written as any other memory.
SEQKERN_KERNEL(64) careless(Arrays p) {
  if (block_index() == 0 && thread_index() == 0) p.words[0] = 1;
  if (block_index() == 1) spin_until([&] { return load_coherent(p.words).at[0] == 1; });
}

// option: whether the barrier is there.
SEQKERN_KERNEL(64) across_grid(Arrays p) {
  const int64_t i = block_index() * block_size() + thread_index(), n = block_count() * block_size();
  p.i[i] = static_cast<int>(i);
  if (p.option) sync_grid();
  p.i[n + i] = p.i[n - 1 - i];
}

void test_grids() {
  host::forget_buffers();
  struct alignas(16) Flags {
    uint32_t at[4];
  };
  std::vector<Flags> flags(1);
  declare(flags);
  Arrays p;
  p.words = flags[0].at;
  const Launch how{{2, 1}, 64, nullptr, 0, 1, true};
  CHECK(is_caught(poll, how, p, "deadlock: 64 threads wait in spin_until"));
  CHECK(std::strstr(host::last_report(), at_line(kPollLine).c_str()));
  CHECK(is_caught(poll, {{2, 1}, 64, nullptr}, p, "not cooperative"));
  p.option = 1;
  CHECK(passes(poll, how, p));
  CHECK(is_caught(careless, how, p, "race"));

  constexpr size_t kBlocks = 5, kRounds = 8;
  std::vector<Flags> words(kRounds * kBlocks * 4);
  std::vector<int> found(kBlocks * 64);
  declare(found);
  p.words = words[0].at;
  p.i = found.data();
  for (uint64_t seed = 1; seed <= kOrders; ++seed) {
    host::set_seed(seed);
    host::declare_uninitialized(words.data(), words.size() * sizeof(Flags));
    CHECK(launch(relay, {{kBlocks, 1}, 64, nullptr, 0, 1, true}, p) == cudaSuccess);
    for (size_t i = 0; i < found.size(); ++i)
      CHECK(found[i] == static_cast<int>((i / 64 + 8 * kBlocks - kRounds) % kBlocks) << kRounds);
  }

  std::vector<int> exchanged(2 * 3 * 64);
  declare(exchanged);
  p.i = exchanged.data();
  const Launch grid{{3, 1}, 64, nullptr, 0, 1, true};
  CHECK(passes(across_grid, grid, p) && exchanged[3 * 64] == 3 * 64 - 1);
  CHECK(is_caught(across_grid, {{3, 1}, 64, nullptr}, p, "not cooperative"));
  p.option = 0;
  CHECK(is_caught(across_grid, grid, p, "race"));
}

// --- clusters ---

// option, by bits: barriers after writing, and after reading.
SEQKERN_KERNEL(64) across_cluster(Arrays p) {
  SEQKERN_SHARED(int, own, 64);
  auto* const dynamic = reinterpret_cast<int*>(dynamic_shared());
  const int t = static_cast<int>(thread_index());
  own[t] = static_cast<int>(block_index()) * 64 + t;
  dynamic[t] = -own[t];
  if (p.option & 1) sync_cluster();
  const int other = (cluster_rank() + 1) % cluster_size();
  p.i[block_index() * 64 + t] = in_block(other, own)[63 - t];
  p.i[(block_count() + block_index()) * 64 + t] = in_block(other, dynamic + t)[0];
  if (p.option & 2) sync_cluster();
}

SEQKERN_KERNEL(64) beyond_cluster(Arrays p) {
  if (cluster_rank() == 0 && thread_index() == 0) *in_block(static_cast<int>(p.option), dynamic_shared()) = 1;
  sync_cluster();
}

void test_clusters() {
  host::forget_buffers();
  std::vector<int> found(2 * 8 * 64);
  declare(found);
  Arrays p;
  p.i = found.data();
  const Launch how{{8, 1}, 64, nullptr, 64 * sizeof(int), 4};
  p.option = 3;
  CHECK(passes(across_cluster, how, p));
  for (int i = 0; i < 8 * 64; ++i) {
    const int block = i / 64, other = block / 4 * 4 + (block + 1) % 4;
    CHECK(found[static_cast<size_t>(i)] == other * 64 + 63 - i % 64);
    CHECK(found[static_cast<size_t>(8 * 64 + i)] == -(other * 64 + i % 64));
  }
  p.option = 2;
  CHECK(is_caught(across_cluster, how, p, "shared memory"));
  p.option = 1;
  CHECK(is_caught(across_cluster, how, p, "a block that has ended"));
  p.option = 3;
  CHECK(passes(beyond_cluster, how, p));
  p.option = 4;
  CHECK(is_caught(beyond_cluster, how, p, "no block of the cluster"));
}

// --- asynchronous copies ---

// Sums pieces of x, of 16 bytes a thread, of which the next is copied while one is summed. option: the wait that is left out, or
// -1.
SEQKERN_KERNEL(32) pipeline(Arrays p) {
  SEQKERN_SHARED(Words, pieces, 2 * 32);
  constexpr int64_t kPieces = 5;
  const auto fetch = [&](int64_t piece) {
    if (piece < kPieces) copy_async(&pieces[piece % 2 * 32 + thread_index()], p.x + (piece * 32 + thread_index()) * 4);
    commit_copies();
  };
  fetch(0);
  int sum = 0;
  for (int64_t piece = 0; piece < kPieces; ++piece) {
    fetch(piece + 1);
    if (p.option != piece) wait_for_copies<1>();
    sync_warp();
    Words words = pieces[piece % 2 * 32 + (thread_index() + 1) % 32];
    for (const uint32_t word : words.at) sum += static_cast<int>(word);
    sync_warp();
  }
  p.i[thread_index()] = sum;
}

void test_copies() {
  struct alignas(16) Piece {
    uint32_t at[4];
  };
  std::vector<Piece> x(5 * 32);
  std::vector<int> found(32);
  for (size_t i = 0; i < x.size(); ++i) x[i] = {{static_cast<uint32_t>(i), 1, 2, 3}};
  host::forget_buffers();
  declare(x);
  declare(found);
  Arrays p;
  p.x = reinterpret_cast<const float*>(x.data());
  p.i = found.data();
  p.option = -1;
  CHECK(passes(pipeline, {{1, 1}, 32, nullptr}, p));
  for (int t = 0; t < 32; ++t) CHECK(found[static_cast<size_t>(t)] == 5 * ((t + 1) % 32) + 32 * 10 + 5 * 6);
  for (const int64_t left_out : {0, 2, 4}) {
    p.option = left_out;
    CHECK(is_caught(pipeline, {{1, 1}, 32, nullptr}, p, "uninitialised: a read of"));
  }
}

// --- limits ---

SEQKERN_KERNEL(1024) nothing(Arrays) {}

void test_limits() {
  const Arrays p;
  const auto error = [&](const Launch& how) { return launch(nothing, how, p); };
  const auto resident = [&](const Launch& how) {
    int64_t blocks = -1;
    CHECK(resident_blocks(nothing, how, blocks) == cudaSuccess);
    return blocks;
  };
  host::simulated_device() = {90, 132, 227 << 10};
  CHECK(error({{2, 3}, 1024, nullptr}) == cudaSuccess);
  CHECK(error({{1, 1}, 1025, nullptr}) != cudaSuccess);
  CHECK(error({{0, 1}, 32, nullptr}) != cudaSuccess);
  CHECK(error({{1, 1}, 32, nullptr, 227 << 10}) == cudaSuccess);
  CHECK(error({{1, 1}, 32, nullptr, (227 << 10) + 1}) != cudaSuccess);
  CHECK(error({{32, 1}, 32, nullptr, 0, 16}) == cudaSuccess);
  CHECK(error({{34, 1}, 32, nullptr, 0, 17}) != cudaSuccess);
  CHECK(error({{30, 1}, 32, nullptr, 0, 16}) != cudaSuccess);
  CHECK(resident({{1, 1}, 1024, nullptr}) == 2 * 132);
  CHECK(resident({{1, 1}, 256, nullptr, 100 << 10}) == 2 * 132);
  CHECK(resident({{1, 1}, 256, nullptr, 200 << 10}) == 132);
  CHECK(resident({{1, 1}, 256, nullptr, 200 << 10, 16}) == 128);
  CHECK(resident({{1, 1}, 256, nullptr, 228 << 10}) == 0);
  CHECK(error({{132, 1}, 32, nullptr, 200 << 10, 1, true}) == cudaSuccess);
  CHECK(error({{133, 1}, 32, nullptr, 200 << 10, 1, true}) == cudaErrorCooperativeLaunchTooLarge);
  host::simulated_device() = {80, 8, 163 << 10};
  DeviceLimits limits;
  CHECK(device_limits(limits) == cudaSuccess && limits.capability == 80 && limits.multiprocessors == 8);
  CHECK(error({{2, 1}, 32, nullptr, 0, 2}) != cudaSuccess);
  CHECK(resident({{2, 1}, 32, nullptr, 0, 2}) == 0);
  host::simulated_device() = {90, 132, 227 << 10};
}

}  // namespace

int main() {
  test_warps();
  test_block_reduce();
  test_matrix_units();
  test_conversions();
  test_atomic_add();
  test_add_coherent();
  test_memory();
  test_missing_barrier();
  test_divergence();
  test_grids();
  test_clusters();
  test_copies();
  test_limits();
  return test::failures();
}
