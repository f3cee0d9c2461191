#include "cpu/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace seqkern::cpu {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr int64_t kSmall = int64_t{1} << 16;  // malloc's own lists serve smaller blocks without the operating system
constexpr int kSlots = 32;
constexpr int64_t kMostKept = int64_t{1} << 29;  // 512 MiB a thread

// A block begins with its size, one cache line before the memory that is handed out.
int64_t& size_of(void* block) { return *static_cast<int64_t*>(block); }

void* allocate(int64_t size) {
  const int64_t unit = size < 2 * kHugePage ? kCacheLine : kHugePage;
  const int64_t whole = (size + unit - 1) / unit * unit;
  void* block = std::aligned_alloc(static_cast<size_t>(unit), static_cast<size_t>(whole));
  if (!block) throw std::bad_alloc();
  if (unit == kHugePage) madvise(block, static_cast<size_t>(whole), MADV_HUGEPAGE);  // advice: failure changes nothing
  size_of(block) = whole;
  return block;
}

// The blocks that this thread has returned.
class Cache {
 public:
  ~Cache();

  // The smallest block that is large enough and not more than twice as large, or null.
  void* take(int64_t size) {
    int best = -1;
    for (int i = 0; i < count_; ++i) {
      const int64_t have = size_of(blocks_[i]);
      if (have >= size && have <= 2 * size && (best < 0 || have < size_of(blocks_[best]))) best = i;
    }
    return best < 0 ? nullptr : remove(best);
  }

  // Where there is no room, the blocks that have lain here longest make it.
  void keep(void* block) {
    if (size_of(block) > kMostKept) return std::free(block);
    while (count_ == kSlots || kept_ + size_of(block) > kMostKept) std::free(remove(0));
    blocks_[count_++] = block;
    kept_ += size_of(block);
  }

 private:
  void* remove(int i) {
    void* const block = blocks_[i];
    kept_ -= size_of(block);
    std::copy(blocks_ + i + 1, blocks_ + count_, blocks_ + i);
    --count_;
    return block;
  }

  void* blocks_[kSlots];  // from the oldest
  int count_ = 0;
  int64_t kept_ = 0;
};

// A thread's last tensors may outlive its cache.
thread_local bool cache_is_gone = false;
thread_local Cache cache;

Cache::~Cache() {
  while (count_ > 0) std::free(remove(0));
  cache_is_gone = true;
}

}  // namespace

void* take_memory(int64_t bytes) {
  const int64_t size = bytes + kCacheLine;
  void* block = size < kSmall || cache_is_gone ? nullptr : cache.take(size);
  return static_cast<char*>(block ? block : allocate(size)) + kCacheLine;
}

void return_memory(void* memory) {
  void* const block = static_cast<char*>(memory) - kCacheLine;
  if (size_of(block) < kSmall || cache_is_gone)
    std::free(block);
  else
    cache.keep(block);
}

}  // namespace seqkern::cpu
