// What the parts of the executor share: the fibers, blocks and barriers of the launch that runs.
//
// The fibers of a wave (the blocks that are live at once) are numbered block by block, so that a warp, a block and a cluster are
// each a range of them.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "executor.h"

namespace seqkern::host {

constexpr int kLanes = 32, kMaxThreads = 1024, kMaxCluster = 16;

// Time passes when a barrier is released. Of two accesses by threads that share the barrier, the earlier one was before it if its
// time is less than that of the release.
using Time = uint64_t;

struct Barrier {
  int64_t first, members;  // fibers
  int64_t waiting = 0, left = 0;
  const char* what = "";  // what the waiting ones called, and where
  Where where{};
  Where left_after{};  // the last barrier of one who left the kernel
  Time released = 0;
};

// What the lanes of a warp give each other. Operations use the two halves by turns: who gives to an operation has done the one
// before, so all have taken what the one before that gave.
struct Warp {
  struct Gift {
    uint64_t bits;
    float* d;
    const uint32_t *a, *b;
  };

  Barrier barrier;
  int turn = 0;
  Gift gifts[2][kLanes];
};

struct Block {
  int64_t index, x, y;  // in the grid
  int slot;             // of shared memory
  int rank;             // in the cluster
  int64_t live;         // threads that have not left
  Barrier barrier;
  Barrier* cluster;
  std::vector<Warp> warps;
};

struct Copy {
  void* to;
  const void* from;
  int64_t group;
};

struct Fiber {
  jmp_buf start;   // where its function begins
  jmp_buf resume;  // where it goes on
  bool begun;
  int64_t index;  // in the wave
  int thread;     // in the block
  uint64_t id;    // in the grid
  Block* block;
  Warp* warp;
  bool waiting, polling;
  const char* what;  // what it waits in, and where
  Where where;
  Where passed;  // its last barrier; line 0: none
  std::vector<Copy> copies;
  int64_t groups;  // of copies, closed
};

struct Execution {
  Shape shape;
  void (*call)(const void*);
  const void* argument;
  size_t argument_bytes;
  std::vector<Block> blocks;  // of the wave
  std::vector<Barrier> clusters;
  Barrier grid;
  int64_t live;            // fibers that have not ended
  Time time = 1;           // now
  Time began, wave_began;  // the launch, the wave
  bool stirred;            // memory was written since pollers looked last
  int polls_for_nothing;   // rounds of polls since then
};

extern Execution execution;
extern Fiber* running;

// All fibers' stacks.
extern uintptr_t stacks_begin, stacks_bytes, stack_begin;  // stack_begin: of the running fiber
constexpr size_t kStackBytes = 1089 * 64;                  // no power of two, lest all frames share a few lines of the caches

// --- executor.cpp ---

Fiber* fiber_at(int64_t index);  // of the wave
// Lets other fibers go on; this one goes on once it was added to those that are ready.
void pause();
void add_ready(Fiber* fiber);
void pause_ready();
// Until memory was written, or no other fiber is ready.
void pause_polling();
// pause_ready, now and then.
void maybe_pause();
uint32_t draw(uint32_t count);  // a random number less than count

const char* name_of(const char* file);
bool same(Where a, Where b);
// Abandons the launch with a report. code: an address in the kernel, or null.
[[noreturn]] void fail(const void* code, const char* format, ...) __attribute__((format(printf, 2, 3)));

// --- primitives.cpp ---

// Of a thread that leaves the kernel.
void leave_barriers();

// --- memory.cpp ---

enum class Access { read, write, coherent_read, coherent_write };

// Makes room for the shared memory of the wave's blocks.
void begin_memory(int64_t blocks, size_t dynamic_bytes);
unsigned char* own_shared();  // of the running block; it begins with the dynamic part
void check_access(const void* p, size_t bytes, Access access, const void* code);
// The bytes of shared memory count as never written.
void forget_written(const void* shared, size_t bytes);
bool is_buffer(const void* p, size_t bytes);

}  // namespace seqkern::host
