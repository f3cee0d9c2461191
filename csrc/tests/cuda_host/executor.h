// The host executor: runs CUDA kernels on the CPU, as a test tool, and checks what they do.
//
// Every thread of the running blocks is a fiber, and all of them share one thread of the operating system. At barriers, at
// operations of a warp, at polls and now and then at an access to memory, a fiber drawn at random goes on. So a kernel is run in
// another order at every launch; the orders of a process follow from its seed.
//
// A kernel's source is compiled with -fsanitize=thread, but linked with the executor in place of that sanitiser's library: the
// compiler calls it at every load and store. A launch fails with cudaErrorLaunchFailure, and a report on stderr, at
//   - an access outside of the declared buffers, of shared memory and of the thread's own variables, or one not aligned;
//   - a read of shared memory that the block has not written, or of a buffer declared as uninitialised;
//   - a race: two threads access the same memory, one of them writes, and no barrier of both lies between;
//   - a barrier that some threads of its group do not reach, and a deadlock.
// Sources compiled without the flag run as well; then only the primitives of device.cuh check what they access.
#pragma once

#include <cstddef>
#include <cstdint>

namespace seqkern::cuda {
struct DeviceLimits;
}

namespace seqkern::host {

// --- for tests ---

// What launches may access from now on. (nullptr, SIZE_MAX) is all memory, for callers that cannot know; it has no race checks.
void declare_buffer(const void* begin, size_t bytes);
// As declare_buffer, and fills it with bytes 0xFF: a read of 2, 4 or 8 bytes that are all ones is reported.
void declare_uninitialized(void* begin, size_t bytes);
void forget_buffers();

// Begins a sequence of random orders. The first is that of the environment variable SEQKERN_HOST_SEED, or 1.
void set_seed(uint64_t seed);

// Of the launch that failed last; "" before the first.
const char* last_report();

// The device that launches find. SEQKERN_HOST_DEVICE="capability=80,multiprocessors=8,shared_bytes=166912" sets any of them.
cuda::DeviceLimits& simulated_device();

// Whether races are reported (they are).
bool& race_checks();

// --- for device.cuh ---

// Where a primitive is called: as a defaulted argument, the caller's place.
struct Where {
  const char* file;
  int line;

  static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

struct Shape {
  int64_t x, y;  // blocks
  int threads;
  size_t shared_bytes;
  int cluster;
  bool cooperative;
};

// Runs call(argument) in every thread of the launch; kernels may read the `bytes` of the argument.
int execute(const Shape& shape, void (*call)(const void*), const void* argument, size_t bytes);
int count_resident_blocks(const Shape& shape, int64_t& blocks);

// Memory of the block for the array that `key` stands for, at the same place in all blocks of the launch.
void* shared_array(const void* key, size_t bytes);
// The same place in the shared memory of another block of the cluster.
void* in_block(int rank, void* shared, Where where);

// Reports an address that is not a multiple of `bytes`.
void check_alignment(const void* p, size_t bytes, Where where);

// Gives a value of 4 or 8 bytes, and gets that of another lane; all lanes of the warp do.
void shuffle(void* value, size_t bytes, int lane, Where where);

// d += a b, as documented in device.cuh, where element(words, i) is number i of a row of a or a column of b.
using Element = float (*)(const uint32_t (&words)[8], int i);
void multiply_add(float* d, const uint32_t* a, const uint32_t* b, int row_size, Element element, Where where);

void begin_poll(Where where);
void poll_again();
void end_poll();

void wait_for_copies(int pending);

}  // namespace seqkern::host
