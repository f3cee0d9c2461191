// The primitives of device.cuh that are no templates, and what its templates stand on: barriers, operations of warps, polls, and
// accesses to memory on a kernel's behalf.
#include <cstring>

#include "cuda/device.cuh"
#include "state.h"

namespace seqkern::host {
namespace {

// --- barriers ---

// Registers the running fiber. Whether it is the last, for whom all others wait.
bool arrive(Barrier& barrier, const char* what, Where where) {
  if (barrier.left > 0)
    fail(nullptr, "%s at %s:%d, where %ld of its %ld threads have left the kernel, one after %s:%d", what, name_of(where.file),
         where.line, static_cast<long>(barrier.left), static_cast<long>(barrier.members),
         barrier.left_after.line ? name_of(barrier.left_after.file) : "no barrier", barrier.left_after.line);
  if (barrier.waiting > 0 && !(barrier.what == what && same(barrier.where, where)))
    fail(nullptr, "divergent barrier: %s at %s:%d, while others wait in %s at %s:%d", what, name_of(where.file), where.line,
         barrier.what, name_of(barrier.where.file), barrier.where.line);
  barrier.what = what;
  barrier.where = where;
  return ++barrier.waiting == barrier.members;
}

void release(Barrier& barrier) {
  barrier.waiting = 0;
  barrier.released = ++execution.time;
  for (int64_t i = barrier.first; i < barrier.first + barrier.members; ++i) {
    Fiber* const fiber = fiber_at(i);
    if (fiber == running) continue;
    fiber->waiting = false;
    add_ready(fiber);
  }
  if (draw(2) == 0) pause_ready();
}

void wait_for_release(const char* what, Where where) {
  running->waiting = true;
  if (!running->polling) {  // a poll is told by its own place
    running->what = what;
    running->where = where;
  }
  pause();
}

void pass(Barrier& barrier, const char* what, Where where) {
  if (arrive(barrier, what, where))
    release(barrier);
  else
    wait_for_release(what, where);
  running->passed = where;
}

void leave(Barrier& barrier) {
  ++barrier.left;
  barrier.left_after = running->passed;
  if (barrier.waiting > 0)
    fail(nullptr, "a thread leaves the kernel, while %ld of %ld threads wait in %s at %s:%d", static_cast<long>(barrier.waiting),
         static_cast<long>(barrier.members), barrier.what, name_of(barrier.where.file), barrier.where.line);
}

// --- operations of warps ---

// Gives to all lanes of the warp what each gives; last(gifts) is called once, when all have given.
template <class Last>
const Warp::Gift* exchange(const Warp::Gift& gift, const char* what, Where where, const Last& last) {
  Warp& warp = *running->warp;
  if (warp.barrier.members != kLanes)
    fail(nullptr, "%s at %s:%d in a warp of %ld threads", what, name_of(where.file), where.line,
         static_cast<long>(warp.barrier.members));
  Warp::Gift* const gifts = warp.gifts[warp.turn];
  gifts[running->thread % kLanes] = gift;
  if (arrive(warp.barrier, what, where)) {
    last(gifts);
    warp.turn ^= 1;
    release(warp.barrier);
  } else {
    wait_for_release(what, where);
  }
  running->passed = where;
  return gifts;
}

const Warp::Gift* exchange_bits(uint64_t bits, const char* what, Where where) {
  return exchange({bits, nullptr, nullptr, nullptr}, what, where, [](Warp::Gift*) {});
}

uint32_t votes(bool value, const char* what, Where where) {
  const Warp::Gift* const gifts = exchange_bits(value, what, where);
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= static_cast<uint32_t>(gifts[lane].bits != 0) << lane;
  return bits;
}

}  // namespace

void leave_barriers() {
  leave(running->warp->barrier);
  leave(running->block->barrier);
  leave(*running->block->cluster);
  leave(execution.grid);
}

void shuffle(void* value, size_t bytes, int lane, Where where) {
  uint64_t bits = 0;
  std::memcpy(&bits, value, bytes);
  bits = exchange_bits(bits, "shuffle", where)[lane & (kLanes - 1)].bits;
  std::memcpy(value, &bits, bytes);
}

void multiply_add(float* d, const uint32_t* a, const uint32_t* b, int row_size, Element element, Where where) {
  constexpr int kRows = 16, kColumns = 8, kMaxSize = 16;
  // Sums are in float32 and by ascending k; a device's order is its own.
  const auto product = [&](Warp::Gift* gifts) {
    float of_a[kRows][kMaxSize], of_b[kMaxSize][kColumns];
    uint32_t words[8];
    for (int row = 0; row < kRows; ++row) {
      for (int w = 0; w < 8; ++w) words[w] = gifts[row % 8 * 4 + w % 4].a[row / 8 + w / 4 * 2];
      for (int k = 0; k < row_size; ++k) of_a[row][k] = element(words, k);
    }
    for (int column = 0; column < kColumns; ++column) {
      for (int w = 0; w < 8; ++w) words[w] = gifts[column * 4 + w % 4].b[w / 4];
      for (int k = 0; k < row_size; ++k) of_b[k][column] = element(words, k);
    }
    for (int row = 0; row < kRows; ++row) {
      float sums[kColumns] = {};
      for (int k = 0; k < row_size; ++k)
        for (int column = 0; column < kColumns; ++column) sums[column] += of_a[row][k] * of_b[k][column];
      for (int column = 0; column < kColumns; ++column)
        gifts[row % 8 * 4 + column / 2].d[row / 8 * 2 + column % 2] += sums[column];
    }
  };
  exchange({0, d, a, b}, "multiply_add", where, product);
}

// --- polls and copies ---

void begin_poll(Where where) {
  running->polling = true;
  running->what = "spin_until";
  running->where = where;
}

void poll_again() {
  if (!execution.shape.cooperative)
    fail(nullptr, "spin_until at %s:%d has to wait in a launch that is not cooperative", name_of(running->where.file),
         running->where.line);
  pause_polling();
}

void end_poll() { running->polling = false; }

void wait_for_copies(int pending) {
  auto& copies = running->copies;
  size_t kept = 0;
  for (const Copy& copy : copies) {
    if (copy.group >= running->groups - pending) {
      copies[kept++] = copy;
      continue;
    }
    check_access(copy.to, 16, Access::write, __builtin_return_address(0));
    std::memcpy(copy.to, copy.from, 16);
  }
  copies.resize(kept);
}

}  // namespace seqkern::host

namespace seqkern::cuda {

using host::Access;
using host::execution;
using host::running;

int64_t thread_index() { return running->thread; }
int64_t block_size() { return execution.shape.threads; }
int64_t block_index() { return running->block->x; }
int64_t block_count() { return execution.shape.x; }
int64_t block_index_y() { return running->block->y; }
int64_t block_count_y() { return execution.shape.y; }
int lane_index() { return running->thread % kWarpSize; }
int warp_index() { return running->thread / kWarpSize; }
unsigned char* dynamic_shared() { return host::own_shared(); }
int cluster_rank() { return running->block->rank; }
int cluster_size() { return execution.shape.cluster; }

void sync_warp(Where where) { host::pass(running->warp->barrier, "sync_warp", where); }
void sync_block(Where where) { host::pass(running->block->barrier, "sync_block", where); }
void sync_cluster(Where where) {
  if (host::simulated_device().capability < 90)
    host::fail(nullptr, "sync_cluster at %s:%d on a device without clusters", host::name_of(where.file), where.line);
  host::pass(*running->block->cluster, "sync_cluster", where);
}
void sync_grid(Where where) {
  if (!execution.shape.cooperative)
    host::fail(nullptr, "sync_grid at %s:%d in a launch that is not cooperative", host::name_of(where.file), where.line);
  host::pass(execution.grid, "sync_grid", where);
}
bool any_of_warp(bool value, Where where) { return host::votes(value, "any_of_warp", where) != 0; }
bool all_of_warp(bool value, Where where) { return host::votes(value, "all_of_warp", where) == 0xFFFFFFFFu; }
uint32_t ballot(bool value, Where where) { return host::votes(value, "ballot", where); }

Words load_coherent(const void* p, Where where) {
  host::check_alignment(p, sizeof(Words), where);
  host::check_access(p, sizeof(Words), Access::coherent_read, __builtin_return_address(0));
  Words words;
  for (int i = 0; i < 4; ++i) {
    std::memcpy(&words.at[i], static_cast<const char*>(p) + 4 * i, 4);
    host::maybe_pause();
  }
  return words;
}
void store_coherent(uint16_t* p, uint16_t bits, Where where) {
  host::check_alignment(p, sizeof(bits), where);
  host::check_access(p, sizeof(bits), Access::coherent_write, __builtin_return_address(0));
  *p = bits;
}
void store_coherent(uint32_t* p, uint32_t bits, Where where) {
  host::check_alignment(p, sizeof(bits), where);
  host::check_access(p, sizeof(bits), Access::coherent_write, __builtin_return_address(0));
  *p = bits;
}
void add_coherent(float* p, const float (&values)[4], Where where) {
  host::check_alignment(p, sizeof(values), where);
  host::check_access(p, sizeof(values), Access::coherent_write, __builtin_return_address(0));
  for (int i = 0; i < 4; ++i) {
    p[i] += values[i];
    host::maybe_pause();
  }
}
void add_coherent(double* p, double value, Where where) {
  host::check_alignment(p, sizeof(value), where);
  host::check_access(p, sizeof(value), Access::coherent_write, __builtin_return_address(0));
  *p += value;
}
int atomic_add(int* p, int value, Where where) {
  host::check_alignment(p, sizeof(value), where);
  host::check_access(p, sizeof(value), Access::coherent_write, __builtin_return_address(0));
  const int before = *p;
  *p = before + value;
  return before;
}

void copy_async(void* shared, const void* global, Where where) {
  constexpr size_t kBytes = 16;
  host::check_alignment(shared, kBytes, where);
  host::check_alignment(global, kBytes, where);
  host::check_access(global, kBytes, Access::read, __builtin_return_address(0));
  host::check_access(shared, kBytes, Access::write, __builtin_return_address(0));
  host::forget_written(shared, kBytes);
  running->copies.push_back({shared, global, running->groups});
}
void commit_copies() { ++running->groups; }

}  // namespace seqkern::cuda
