// Fibers and their schedule, reports, and launches.
//
// glibc's checked longjmp takes a jump to another stack for an error.
#undef _FORTIFY_SOURCE

#include "executor.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "cuda/device.cuh"
#include "state.h"

namespace seqkern::host {

Execution execution;
Fiber* running;
uintptr_t stacks_begin, stacks_bytes, stack_begin;

namespace {

constexpr int64_t kMaxFibers = int64_t{1} << 18;
constexpr int kThreadsOfMultiprocessor = 2048, kBlocksOfMultiprocessor = 32, kReservedShared = 1024;
constexpr uint32_t kAccessesToPause = 128;  // at most; half as many on average
constexpr int kPollsForNothing = 4;         // operations of a warp within a poll may see old values once more

jmp_buf launcher;
enum { kDone = 1, kFailed };

char report[2048];

std::vector<Fiber*> fibers;          // all that were ever made; their stacks lie side by side
std::vector<Fiber*> ready, pollers;  // with room for all fibers
ucontext_t maker;
uint32_t accesses_to_pause = 1;

// --- random numbers ---

uint64_t first_seed() {
  const char* text = std::getenv("SEQKERN_HOST_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 1;
}

uint64_t random_state;
bool seeded = false;

uint64_t next_random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

// --- switching ---

void run_thread();

// Where a fiber's stack begins. A launch that was abandoned leaves fibers within a kernel; the next one that needs them jumps
// back to here.
void fiber_main() {
  if (_setjmp(running->start) == 0) setcontext(&maker);
  run_thread();
}

void make_fiber() {
  if (!stacks_begin) {
    void* const memory =
        mmap(nullptr, kMaxFibers * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::perror("seqkern host executor: stacks");
      std::abort();
    }
    stacks_begin = reinterpret_cast<uintptr_t>(memory);
    stacks_bytes = kMaxFibers * kStackBytes;
  }
  auto* const fiber = new Fiber();
  fiber->index = static_cast<int64_t>(fibers.size());
  fibers.push_back(fiber);
  ready.reserve(fibers.capacity());
  pollers.reserve(fibers.capacity());
  static ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = reinterpret_cast<void*>(stacks_begin + static_cast<size_t>(fiber->index) * kStackBytes);
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  running = fiber;
  swapcontext(&maker, &context);
}

Fiber* take(std::vector<Fiber*>& from) {
  const size_t i = draw(static_cast<uint32_t>(from.size()));
  Fiber* const fiber = from[i];
  from[i] = from.back();
  from.pop_back();
  return fiber;
}

[[noreturn]] void fail_of_deadlock();

// The fiber that goes on next.
Fiber* next_fiber() {
  if (execution.stirred && !pollers.empty() && draw(8) == 0) add_ready(take(pollers));
  if (ready.empty()) {
    if (execution.stirred)
      execution.polls_for_nothing = 0;
    else if (pollers.empty() || ++execution.polls_for_nothing > kPollsForNothing)
      fail_of_deadlock();
    execution.stirred = false;
    ready.swap(pollers);
    if (ready.empty()) fail_of_deadlock();
  }
  return take(ready);
}

[[noreturn]] void go_on(Fiber* fiber) {
  running = fiber;
  stack_begin = stacks_begin + static_cast<size_t>(fiber->index) * kStackBytes;
  const bool begun = fiber->begun;
  fiber->begun = true;
  _longjmp(begun ? fiber->resume : fiber->start, 1);
}

}  // namespace

void add_ready(Fiber* fiber) { ready.push_back(fiber); }

__attribute__((noinline)) void pause() {
  Fiber* const next = next_fiber();
  if (next == running) return;
  if (_setjmp(running->resume) == 0) go_on(next);
}

void pause_ready() {
  add_ready(running);
  pause();
}

void pause_polling() {
  pollers.push_back(running);
  pause();
}

Fiber* fiber_at(int64_t index) { return fibers[static_cast<size_t>(index)]; }

// --- reports ---

const char* name_of(const char* file) {
  const char* const name = std::strstr(file, "csrc/");
  return name ? name : file;
}

bool same(Where a, Where b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

void fail(const void* code, const char* format, ...) {
  char* end = report;
  const auto add = [&end](const char* text, auto... values) {
    const auto room = static_cast<size_t>(report + sizeof(report) - end);
    const int length = std::snprintf(end, room, text, values...);
    if (length > 0) end += std::min(static_cast<size_t>(length), room - 1);
  };
  va_list arguments;
  va_start(arguments, format);
  end += std::min<size_t>(static_cast<size_t>(std::max(0, std::vsnprintf(report, sizeof(report), format, arguments))),
                          sizeof(report) - 1);
  va_end(arguments);
  if (running) {
    add(", block (%ld, %ld) thread %d", static_cast<long>(running->block->x), static_cast<long>(running->block->y),
        running->thread);
    if (running->passed.line > 0) add(", last barrier %s:%d", name_of(running->passed.file), running->passed.line);
  }
  Dl_info info;
  if (code && dladdr(code, &info) && info.dli_fname)  // the call is before the address to which it returns
    add(", code: addr2line -Cife %s 0x%zx", info.dli_fname,
        static_cast<size_t>(static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase)) - 1);
  std::fprintf(stderr, "seqkern host executor: %s\n", report);
  _longjmp(launcher, kFailed);
}

uint32_t draw(uint32_t count) { return static_cast<uint32_t>((next_random() >> 32) * count >> 32); }

void maybe_pause() {
  if (--accesses_to_pause > 0) return;
  accesses_to_pause = 1 + draw(kAccessesToPause);
  pause_ready();
}

namespace {

// Names each place at which fibers wait, with one of them.
void fail_of_deadlock() {
  struct Group {
    const Fiber* first;
    int64_t count;
  };
  constexpr int kGroups = 8;
  Group groups[kGroups];
  int count = 0;
  for (const Block& block : execution.blocks)
    for (int64_t i = block.barrier.first; i < block.barrier.first + block.barrier.members; ++i) {
      const Fiber* const fiber = fibers[static_cast<size_t>(i)];
      if (!fiber->waiting && !fiber->polling) continue;
      int g = 0;
      while (g < count && !(groups[g].first->what == fiber->what && same(groups[g].first->where, fiber->where))) ++g;
      if (g == kGroups) continue;
      if (g == count) groups[count++] = {fiber, 0};
      ++groups[g].count;
    }
  char text[1024] = "";
  size_t end = 0;
  for (int g = 0; g < count && end < sizeof(text) - 1; ++g) {
    const Fiber& of = *groups[g].first;
    const int length =
        std::snprintf(text + end, sizeof(text) - end, "%s %ld threads wait in %s at %s:%d (block (%ld, %ld) thread %d)",
                      g > 0 ? "," : "", static_cast<long>(groups[g].count), of.what, name_of(of.where.file), of.where.line,
                      static_cast<long>(of.block->x), static_cast<long>(of.block->y), of.thread);
    end = std::min(end + static_cast<size_t>(std::max(0, length)), sizeof(text) - 1);
  }
  running = nullptr;
  fail(nullptr, "deadlock:%s", text);
}

// What a fiber does in a launch.
void run_thread() {
  execution.call(execution.argument);
  leave_barriers();
  --running->block->live;
  if (--execution.live == 0) _longjmp(launcher, kDone);
  go_on(next_fiber());
}

// --- launches ---

int64_t blocks_of_multiprocessor(const Shape& shape) {
  const cuda::DeviceLimits& device = simulated_device();
  const int threads = (shape.threads + kLanes - 1) / kLanes * kLanes;
  const auto shared = static_cast<int64_t>(shape.shared_bytes) + kReservedShared;
  return std::min<int64_t>(
      {kBlocksOfMultiprocessor, kThreadsOfMultiprocessor / threads, (int64_t{device.shared_bytes} + kReservedShared) / shared});
}

bool fits(const Shape& shape) {
  const cuda::DeviceLimits& device = simulated_device();
  const bool clusters_fit = shape.cluster == 1 || (device.capability >= 90 && shape.cluster >= 1 && shape.cluster <= kMaxCluster);
  return shape.threads >= 1 && shape.threads <= kMaxThreads && clusters_fit &&
         shape.shared_bytes <= static_cast<size_t>(device.shared_bytes);
}

int resident(const Shape& shape) {
  const int64_t blocks = blocks_of_multiprocessor(shape) * simulated_device().multiprocessors;
  return static_cast<int>(blocks / shape.cluster * shape.cluster);
}

// The wave's blocks: `count` from `first` on.
void begin_wave(int64_t first, int64_t count) {
  Execution& e = execution;
  const int threads = e.shape.threads, warps = (threads + kLanes - 1) / kLanes;
  e.wave_began = ++e.time;
  e.live = count * threads;
  e.stirred = false;
  e.polls_for_nothing = 0;
  e.blocks.resize(static_cast<size_t>(count));
  e.clusters.assign(static_cast<size_t>(count / e.shape.cluster), Barrier());
  const auto begin = [&](Barrier& barrier, int64_t from, int64_t members) {
    barrier = Barrier();
    barrier.first = from;
    barrier.members = members;
    barrier.released = e.wave_began;
  };
  begin(e.grid, 0, e.live);
  e.grid.released = e.began;
  for (int64_t c = 0; c < count / e.shape.cluster; ++c)
    begin(e.clusters[static_cast<size_t>(c)], c * e.shape.cluster * threads, e.shape.cluster * threads);
  ready.clear();
  pollers.clear();
  for (int64_t b = 0; b < count; ++b) {
    Block& block = e.blocks[static_cast<size_t>(b)];
    block.index = first + b;
    block.x = block.index % e.shape.x;
    block.y = block.index / e.shape.x;
    block.slot = static_cast<int>(b);
    block.rank = static_cast<int>(b % e.shape.cluster);
    block.live = threads;
    begin(block.barrier, b * threads, threads);
    block.cluster = &e.clusters[static_cast<size_t>(b / e.shape.cluster)];
    block.warps.resize(static_cast<size_t>(warps));
    for (int w = 0; w < warps; ++w) {
      block.warps[static_cast<size_t>(w)].turn = 0;
      begin(block.warps[static_cast<size_t>(w)].barrier, b * threads + w * kLanes, std::min(kLanes, threads - w * kLanes));
    }
    for (int t = 0; t < threads; ++t) {
      Fiber& fiber = *fibers[static_cast<size_t>(b * threads + t)];
      fiber.begun = fiber.waiting = fiber.polling = false;
      fiber.thread = t;
      fiber.id = static_cast<uint64_t>(block.index * threads + t);
      fiber.block = &block;
      fiber.warp = &block.warps[static_cast<size_t>(t / kLanes)];
      fiber.passed = {};
      fiber.copies.clear();
      fiber.groups = 0;
      add_ready(&fiber);
    }
  }
}

// Runs the wave's fibers to their ends.
__attribute__((noinline)) bool run_wave() {
  const int found = _setjmp(launcher);
  if (found == 0) go_on(next_fiber());
  running = nullptr;
  return found == kDone;
}

int refuse(int error, const char* why) {
  std::snprintf(report, sizeof(report), "launch refused: %s", why);
  std::fprintf(stderr, "seqkern host executor: %s\n", report);
  return error;
}

}  // namespace

int execute(const Shape& shape, void (*call)(const void*), const void* argument, size_t bytes) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  if (!fits(shape)) return refuse(cudaErrorInvalidValue, "threads, shared memory or clusters are more than the device has");
  if (shape.x < 1 || shape.y < 1 || shape.x % shape.cluster != 0)
    return refuse(cudaErrorInvalidConfiguration, "an empty grid, or one not of whole clusters");
  const int64_t blocks = shape.x * shape.y;
  if (shape.cooperative && blocks > resident(shape))
    return refuse(cudaErrorCooperativeLaunchTooLarge, "not all blocks of the cooperative grid can run at once");
  const int64_t together = shape.cooperative ? blocks : shape.cluster;
  if (together * shape.threads > kMaxFibers) return refuse(cudaErrorLaunchFailure, "more live threads than the executor holds");

  if (!seeded) set_seed(first_seed());
  while (static_cast<int64_t>(fibers.size()) < together * shape.threads) make_fiber();
  execution.shape = shape;
  execution.call = call;
  execution.argument = argument;
  execution.argument_bytes = bytes;
  execution.began = ++execution.time;
  begin_memory(together, shape.shared_bytes);
  std::vector<int64_t> waves;
  for (int64_t first = 0; first < blocks; first += together) waves.push_back(first);
  for (size_t i = waves.size(); i > 1; --i) std::swap(waves[i - 1], waves[draw(static_cast<uint32_t>(i))]);
  for (const int64_t first : waves) {
    begin_wave(first, together);
    if (!run_wave()) return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

int count_resident_blocks(const Shape& shape, int64_t& blocks) {
  blocks = fits(shape) ? resident(shape) : 0;
  return cudaSuccess;
}

void set_seed(uint64_t seed) {
  seeded = true;
  accesses_to_pause = 1;
  random_state = (seed + 1) * 0x9E3779B97F4A7C15u | 1;
  for (int i = 0; i < 8; ++i) next_random();
}

const char* last_report() { return report; }

cuda::DeviceLimits& simulated_device() {
  static cuda::DeviceLimits device = [] {
    cuda::DeviceLimits limits{90, 132, 227 << 10};
    const char* const text = std::getenv("SEQKERN_HOST_DEVICE");
    const auto set = [text](const char* name, int& value) {
      if (const char* const found = text ? std::strstr(text, name) : nullptr) value = std::atoi(found + std::strlen(name));
    };
    set("capability=", limits.capability);
    set("multiprocessors=", limits.multiprocessors);
    set("shared_bytes=", limits.shared_bytes);
    return limits;
  }();
  return device;
}

}  // namespace seqkern::host

namespace seqkern::cuda {

cudaError_t device_limits(DeviceLimits& limits) {
  limits = host::simulated_device();
  return cudaSuccess;
}

cudaError_t fill_bytes(void* p, int value, size_t bytes, cudaStream_t) {
  if (bytes > 0 && !host::is_buffer(p, bytes))
    return host::refuse(cudaErrorInvalidValue, "fill_bytes of what is not in a buffer");
  std::memset(p, value, bytes);
  return cudaSuccess;
}

}  // namespace seqkern::cuda
