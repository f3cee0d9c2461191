// Which memory a kernel may access, and the checks of its loads and stores, which the compiler calls under -fsanitize=thread.
#undef _FORTIFY_SOURCE

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>

#include "state.h"

namespace seqkern::host {
namespace {

// An access: its time, whether it was coherent, and the thread; 0: none.
using Stamp = uint64_t;
constexpr int kTimeShift = 29;
constexpr Stamp kCoherent = Stamp{1} << 28, kThread = kCoherent - 1;

// Who accessed two bytes: the writer, and two readers, of which the older makes place for a new one. Accesses of single bytes,
// which share a cell with others, are not checked for races.
struct Cell {
  Stamp write, reads[2];
};
constexpr size_t kCellBytes = 2;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

struct Buffer {
  uintptr_t begin, end;
  bool uninitialized;
  std::unique_ptr<Cell[], Free> cells;  // none: no race checks
};
constexpr size_t kMaxCheckedBytes = size_t{1} << 32;

std::vector<Buffer> buffers;  // by begin
size_t last_buffer = 0;

// Shared memory: a slot for each live block, in which arrays begin where they do in all slots.
struct Array {
  const void* key;  // null: the dynamic one
  size_t begin, end;
};
constexpr size_t kSlotBytes = 320 << 10, kStaticBytes = 48 << 10, kAlignment = 128;
constexpr int kMaxArrays = 64;

uintptr_t shared_begin = 0;
size_t shared_bytes = 0;
Cell* shared_cells = nullptr;
Array arrays[kMaxArrays];
int array_count = 0;
size_t static_bytes = 0;

bool races_checked = true;

// Constants of the program and its libraries.
struct Range {
  uintptr_t begin, end;
};
std::vector<Range> constants;

int add_constants(dl_phdr_info* info, size_t, void*) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    const bool constant = (segment.p_type == PT_LOAD && !(segment.p_flags & PF_W)) || segment.p_type == PT_GNU_RELRO;
    if (constant) constants.push_back({info->dlpi_addr + segment.p_vaddr, info->dlpi_addr + segment.p_vaddr + segment.p_memsz});
  }
  return 0;
}

bool is_constant(uintptr_t p, size_t bytes) {
  for (const bool again : {false, true}) {
    if (again) {
      constants.clear();
      dl_iterate_phdr(add_constants, nullptr);
    }
    for (const Range& range : constants)
      if (p >= range.begin && p + bytes <= range.end) return true;
  }
  return false;
}

void* reserve(size_t bytes) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory != MAP_FAILED) return memory;
  std::perror("seqkern host executor: shared memory");
  std::abort();
}

const Buffer* find_buffer(uintptr_t p, size_t bytes) {
  const auto holds = [=](const Buffer& buffer) { return p >= buffer.begin && p < buffer.end && bytes <= buffer.end - p; };
  if (last_buffer < buffers.size() && holds(buffers[last_buffer])) return &buffers[last_buffer];
  size_t low = 0, high = buffers.size();  // the first that begins after p
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (buffers[middle].begin <= p)
      low = middle + 1;
    else
      high = middle;
  }
  while (low-- > 0)
    if (holds(buffers[low])) {
      last_buffer = low;
      return &buffers[low];
    }
  return nullptr;
}

void declare(const void* begin, size_t bytes, bool uninitialized) {
  if (bytes == 0) return;
  const auto at = reinterpret_cast<uintptr_t>(begin);
  Buffer buffer{at, at + std::min<size_t>(bytes, UINTPTR_MAX - at), uninitialized, nullptr};
  const size_t cells = bytes / kCellBytes + 2;
  if (bytes <= kMaxCheckedBytes) buffer.cells.reset(static_cast<Cell*>(std::calloc(cells, sizeof(Cell))));
  // What lies within it is declared anew.
  const auto within = [&](const Buffer& other) { return buffer.begin <= other.begin && other.end <= buffer.end; };
  buffers.erase(std::remove_if(buffers.begin(), buffers.end(), within), buffers.end());
  const auto before = [](const Buffer& a, const Buffer& b) { return a.begin < b.begin; };
  buffers.insert(std::upper_bound(buffers.begin(), buffers.end(), buffer, before), std::move(buffer));
}

// --- checks ---

const char* name(Access access) { return access == Access::read || access == Access::coherent_read ? "read" : "write"; }

Time later(Time a, Time b) { return a > b ? a : b; }

// When thread `id` and the running one were last at one barrier.
Time last_common_barrier(Stamp id) {
  const auto threads = static_cast<uint64_t>(execution.shape.threads), cluster = static_cast<uint64_t>(execution.shape.cluster);
  const Block& block = *running->block;
  const uint64_t own = static_cast<uint64_t>(block.index), other = id / threads;
  Time time = execution.grid.released;
  if (other / cluster == own / cluster) time = later(time, block.cluster->released);
  if (other == own) {
    time = later(time, block.barrier.released);
    if (id % threads / kLanes == running->id % threads / kLanes) time = later(time, running->warp->barrier.released);
  }
  return time;
}

// Whether the access behind the stamp, not before `began`, and the running thread's are in no order.
bool races(Stamp with, Stamp own, Time began) {
  if (with >> kTimeShift < began || (with & kThread) == (own & kThread) || (with & own & kCoherent)) return false;
  return with >> kTimeShift >= last_common_barrier(with & kThread);
}

[[noreturn]] void fail_of_race(Access access, size_t bytes, Stamp with, const char* as, const void* p, const void* code) {
  const auto threads = static_cast<uint64_t>(execution.shape.threads), x = static_cast<uint64_t>(execution.shape.x);
  const uint64_t block = (with & kThread) / threads;
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  const Buffer* const buffer = find_buffer(at, bytes);
  fail(code, "race: a %s of %zu bytes at offset %zu of %s, which block (%lu, %lu) thread %lu %s with no barrier between",
       name(access), bytes, buffer ? at - buffer->begin : (at - shared_begin) % kSlotBytes, buffer ? "a buffer" : "shared memory",
       static_cast<unsigned long>(block % x), static_cast<unsigned long>(block / x),
       static_cast<unsigned long>((with & kThread) % threads), as);
}

// Notes an access to the cells of [offset, offset + bytes).
void note(Cell* cells, size_t offset, size_t bytes, Access access, Time began, const void* p, const void* code) {
  const bool write = access == Access::write || access == Access::coherent_write,
             coherent = access == Access::coherent_read || access == Access::coherent_write;
  const Stamp own = execution.time << kTimeShift | (coherent ? kCoherent : 0) | (running->id & kThread);
  const bool checked = races_checked && bytes >= kCellBytes;
  for (size_t i = offset / kCellBytes; i <= (offset + bytes - 1) / kCellBytes; ++i) {
    Cell& cell = cells[i];
    if (checked && races(cell.write, own, began)) fail_of_race(access, bytes, cell.write, "wrote", p, code);
    if (write) {
      for (const Stamp read : cell.reads)
        if (checked && races(read, own, began)) fail_of_race(access, bytes, read, "read", p, code);
      cell.write = own;
    } else {
      const bool second = (cell.reads[0] & kThread) != (own & kThread) &&
                          ((cell.reads[1] & kThread) == (own & kThread) || cell.reads[1] < cell.reads[0]);
      cell.reads[second] = own;
    }
  }
}

void check_shared(uintptr_t p, size_t bytes, Access access, const void* code) {
  const size_t slot = (p - shared_begin) / kSlotBytes, offset = (p - shared_begin) % kSlotBytes;
  int i = 0;
  while (i < array_count && !(offset >= arrays[i].begin && offset + bytes <= arrays[i].end)) ++i;
  if (i == array_count)
    fail(code, "out of bounds: a %s of %zu bytes at offset %zu of shared memory, of which %zu are dynamic", name(access), bytes,
         offset, arrays[0].end);
  const Block& block = execution.blocks[slot];
  if (block.cluster != running->block->cluster) fail(code, "a %s of the shared memory of another cluster", name(access));
  if (block.live == 0) fail(code, "a %s of the shared memory of a block that has ended", name(access));
  Cell* const cells = shared_cells + slot * (kSlotBytes / kCellBytes);
  if (access == Access::read)
    for (size_t c = offset / kCellBytes; c <= (offset + bytes - 1) / kCellBytes; ++c)
      if (cells[c].write >> kTimeShift < execution.wave_began)
        fail(code, "uninitialised: a read of %zu bytes at offset %zu of shared memory%s%s", bytes, offset - arrays[i].begin,
             i == 0 ? ", dynamic" : ", of an array", &block == running->block ? "" : ", of another block of the cluster");
  note(cells, offset, bytes, access, execution.wave_began, reinterpret_cast<void*>(p), code);
}

bool all_ones(uintptr_t p, size_t bytes) {
  static const unsigned char ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
  return std::memcmp(reinterpret_cast<const void*>(p), ones, bytes) == 0;
}

bool is_uninitialized(uintptr_t p, size_t bytes) {
  if (bytes == 2 || bytes == 4) return all_ones(p, bytes);
  for (size_t i = 0; i + 8 <= bytes; i += 8)
    if (all_ones(p + i, 8)) return true;
  return false;
}

[[noreturn]] void fail_of_bounds(uintptr_t p, size_t bytes, Access access, const void* code) {
  if (p - stacks_begin < stacks_bytes) fail(code, "a %s of %zu bytes of another thread's variables", name(access), bytes);
  const Buffer* nearest = nullptr;
  size_t distance = SIZE_MAX;
  for (const Buffer& buffer : buffers) {
    const size_t away = p < buffer.begin ? buffer.begin - p : p + bytes > buffer.end ? p + bytes - buffer.end : 0;
    if (away < distance) {
      nearest = &buffer;
      distance = away;
    }
  }
  const auto at = reinterpret_cast<const void*>(p);
  if (!nearest) fail(code, "out of bounds: a %s of %zu bytes at %p; no buffers are declared", name(access), bytes, at);
  fail(code, "out of bounds: a %s of %zu bytes at %p, the nearest declared buffer has %zu bytes from %p", name(access), bytes, at,
       static_cast<size_t>(nearest->end - nearest->begin), reinterpret_cast<const void*>(nearest->begin));
}

}  // namespace

void declare_buffer(const void* begin, size_t bytes) { declare(begin, bytes, false); }
void declare_uninitialized(void* begin, size_t bytes) {
  std::memset(begin, 0xFF, bytes);
  declare(begin, bytes, true);
}
void forget_buffers() { buffers.clear(); }
bool& race_checks() { return races_checked; }
bool is_buffer(const void* p, size_t bytes) { return find_buffer(reinterpret_cast<uintptr_t>(p), bytes) != nullptr; }

void begin_memory(int64_t blocks, size_t dynamic_bytes) {
  const size_t needed = static_cast<size_t>(blocks) * kSlotBytes;
  if (needed > shared_bytes) {
    if (shared_cells) {
      munmap(reinterpret_cast<void*>(shared_begin), shared_bytes);
      munmap(shared_cells, shared_bytes / kCellBytes * sizeof(Cell));
    }
    shared_begin = reinterpret_cast<uintptr_t>(reserve(needed));
    shared_cells = static_cast<Cell*>(reserve(needed / kCellBytes * sizeof(Cell)));
    shared_bytes = needed;
  }
  arrays[0] = {nullptr, 0, dynamic_bytes};
  array_count = 1;
  static_bytes = 0;
}

void* shared_array(const void* key, size_t bytes) {
  int i = 1;
  while (i < array_count && arrays[i].key != key) ++i;
  if (i == array_count) {
    // A gap stands between two arrays, so that what runs over one is seen.
    const size_t begin = (arrays[i - 1].end + 2 * kAlignment - 1) / kAlignment * kAlignment;
    static_bytes += bytes;
    if (i == kMaxArrays || static_bytes > kStaticBytes || begin + bytes > kSlotBytes)
      fail(__builtin_return_address(0), "%zu bytes of shared arrays", static_bytes);
    arrays[array_count++] = {key, begin, begin + bytes};
  }
  return own_shared() + arrays[i].begin;
}

unsigned char* own_shared() {
  return reinterpret_cast<unsigned char*>(shared_begin + static_cast<size_t>(running->block->slot) * kSlotBytes);
}

void* in_block(int rank, void* shared, Where where) {
  const auto p = reinterpret_cast<uintptr_t>(shared);
  const Block& block = *running->block;
  if (rank < 0 || rank >= execution.shape.cluster || p - shared_begin >= shared_bytes ||
      (p - shared_begin) / kSlotBytes != static_cast<size_t>(block.slot))
    fail(nullptr, "in_block(%d, %p) at %s:%d: no block of the cluster, or no shared memory of this one", rank, shared, where.file,
         where.line);
  return reinterpret_cast<void*>(p + (static_cast<uintptr_t>(rank) - static_cast<uintptr_t>(block.rank)) * kSlotBytes);
}

void check_alignment(const void* p, size_t bytes, Where where) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
    fail(nullptr, "misaligned: %zu bytes at %p, in a call at %s:%d", bytes, p, where.file, where.line);
}

void forget_written(const void* shared, size_t bytes) {
  const size_t first = (reinterpret_cast<uintptr_t>(shared) - shared_begin) / kCellBytes;
  for (size_t i = first; i < first + bytes / kCellBytes; ++i) shared_cells[i].write = 0;
}

void check_access(const void* address, size_t bytes, Access access, const void* code) {
  const auto p = reinterpret_cast<uintptr_t>(address);
  if (p - stack_begin < kStackBytes || bytes == 0) return;
  maybe_pause();
  const bool write = access == Access::write || access == Access::coherent_write;
  execution.stirred |= write;
  if (p - shared_begin < shared_bytes) return check_shared(p, bytes, access, code);
  if (const Buffer* const buffer = find_buffer(p, bytes)) {
    if (access == Access::read && buffer->uninitialized && is_uninitialized(p, bytes))
      fail(code, "uninitialised: a read of %zu bytes at offset %zu of a buffer", bytes, static_cast<size_t>(p - buffer->begin));
    if (buffer->cells) {
      const uintptr_t base = buffer->begin / kCellBytes * kCellBytes;
      note(buffer->cells.get(), p - base, bytes, access, execution.began, address, code);
    }
    return;
  }
  const bool argument = p - reinterpret_cast<uintptr_t>(execution.argument) < execution.argument_bytes;
  if (!write && (argument || is_constant(p, bytes))) return;
  fail_of_bounds(p, bytes, access, code);
}

namespace {

constexpr size_t kStackReserve = 12 << 10;  // for what the kernel calls that is not compiled with the checks

bool in_kernel(const void* frame) { return reinterpret_cast<uintptr_t>(frame) - stacks_begin < stacks_bytes; }

void check_stack(const void* frame, const void* code) {
  if (reinterpret_cast<uintptr_t>(frame) - stack_begin < kStackReserve)
    fail(code, "stack overflow: the executor gives %zu bytes", kStackBytes);
}

void check_aligned(const void* p, size_t bytes, Access access, const void* code) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) fail(code, "misaligned: a %s of %zu bytes at %p", name(access), bytes, p);
  check_access(p, bytes, access, code);
}

}  // namespace
}  // namespace seqkern::host

// --- what the compiler calls. Code of the host, which is not on a fiber's stack, is none of this file's business. ---

using namespace seqkern::host;

#define HERE __builtin_frame_address(0)
#define CODE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {
  if (in_kernel(HERE)) check_stack(HERE, CODE);
}
void __tsan_func_exit() {}

#define ACCESS(name, bytes, access)                                     \
  void __tsan_##name##bytes(const void* p) {                            \
    if (in_kernel(HERE)) check_aligned(p, bytes, Access::access, CODE); \
  }                                                                     \
  void __tsan_volatile_##name##bytes(const void* p) {                   \
    if (in_kernel(HERE)) check_aligned(p, bytes, Access::access, CODE); \
  }                                                                     \
  void __tsan_unaligned_##name##bytes(const void* p) {                  \
    if (in_kernel(HERE)) check_access(p, bytes, Access::access, CODE);  \
  }                                                                     \
  void __tsan_unaligned_volatile_##name##bytes(const void* p) {         \
    if (in_kernel(HERE)) check_access(p, bytes, Access::access, CODE);  \
  }
#define ACCESSES(bytes)       \
  ACCESS(read, bytes, read)   \
  ACCESS(write, bytes, write) \
  ACCESS(read_write, bytes, write)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

void __tsan_read_range(const void* p, unsigned long bytes) {
  if (in_kernel(HERE)) check_access(p, bytes, Access::read, CODE);
}
void __tsan_write_range(const void* p, unsigned long bytes) {
  if (in_kernel(HERE)) check_access(p, bytes, Access::write, CODE);
}
void __tsan_vptr_update(void** p, void*) {
  if (in_kernel(HERE)) check_access(p, sizeof(*p), Access::write, CODE);
}
void __tsan_vptr_read(void** p) {
  if (in_kernel(HERE)) check_access(p, sizeof(*p), Access::read, CODE);
}

// clang's names for them.
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  if (in_kernel(HERE)) {
    check_access(from, bytes, Access::read, CODE);
    check_access(to, bytes, Access::write, CODE);
  }
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  if (in_kernel(HERE)) {
    check_access(from, bytes, Access::read, CODE);
    check_access(to, bytes, Access::write, CODE);
  }
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
  if (in_kernel(HERE)) check_access(to, bytes, Access::write, CODE);
  return std::memset(to, value, bytes);
}

// Atomics are the host's (guards of statics, reference counts); kernels have device.cuh's.
#define ATOMICS(Word, bits)                                                                                                  \
  Word __tsan_atomic##bits##_load(const volatile Word* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }              \
  void __tsan_atomic##bits##_store(volatile Word* p, Word v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }              \
  Word __tsan_atomic##bits##_exchange(volatile Word* p, Word v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
  Word __tsan_atomic##bits##_fetch_add(volatile Word* p, Word v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  Word __tsan_atomic##bits##_fetch_sub(volatile Word* p, Word v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
  Word __tsan_atomic##bits##_fetch_and(volatile Word* p, Word v, int) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); } \
  Word __tsan_atomic##bits##_fetch_or(volatile Word* p, Word v, int) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }   \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile Word* p, Word* e, Word v, int, int) {                           \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                  \
  }                                                                                                                          \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile Word* p, Word* e, Word v, int, int) {                             \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                  \
  }                                                                                                                          \
  Word __tsan_atomic##bits##_compare_exchange_val(volatile Word* p, Word e, Word v, int, int) {                              \
    __atomic_compare_exchange_n(p, &e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                        \
    return e;                                                                                                                \
  }
ATOMICS(uint8_t, 8)
ATOMICS(uint16_t, 16)
ATOMICS(uint32_t, 32)
ATOMICS(uint64_t, 64)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

}  // extern "C"
