#include "cpu/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace seqkern::cpu {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr int64_t kSmall = int64_t{1} << 16;  // malloc's own lists serve smaller blocks without the operating system
constexpr int kSlots = 32;
constexpr int64_t kMostKept = int64_t{1} << 28;  // 256 MiB a thread

// A block begins with its size, one cache line before the memory that is handed out.
int64_t& size_of(void* block) { return *static_cast<int64_t*>(block); }

void* allocate(int64_t size) {
  const int64_t unit = size < 2 * kHugePage ? kCacheLine : kHugePage;
  const int64_t whole = (size + unit - 1) / unit * unit;
  void* block = std::aligned_alloc(static_cast<size_t>(unit), static_cast<size_t>(whole));
  if (!block) throw std::bad_alloc();
  prefer_huge_pages(block, whole);
  size_of(block) = whole;
  return block;
}

// The blocks that this thread has returned.
class Cache {
 public:
  ~Cache() { clear(); }

  // The smallest block that is large enough and not more than twice as large, or null.
  void* take(int64_t size) {
    int best = -1;
    for (int i = 0; i < count_; ++i) {
      const int64_t have = size_of(blocks_[i]);
      if (have >= size && have <= 2 * size && (best < 0 || have < size_of(blocks_[best]))) best = i;
    }
    if (best < 0) return nullptr;
    void* block = blocks_[best];
    blocks_[best] = blocks_[--count_];
    kept_ -= size_of(block);
    return block;
  }

  // Where there is no room, all kept blocks are freed: the sizes in use have changed.
  void keep(void* block) {
    if (size_of(block) < kSmall) return std::free(block);
    if (count_ == kSlots || kept_ + size_of(block) > kMostKept) clear();
    if (size_of(block) > kMostKept) return std::free(block);
    blocks_[count_++] = block;
    kept_ += size_of(block);
  }

 private:
  void clear() {
    while (count_ > 0) std::free(blocks_[--count_]);
    kept_ = 0;
  }

  void* blocks_[kSlots];
  int count_ = 0;
  int64_t kept_ = 0;
};

thread_local Cache cache;

}  // namespace

void* take_memory(int64_t bytes) {
  const int64_t size = bytes + kCacheLine;
  void* block = size < kSmall ? nullptr : cache.take(size);
  return static_cast<char*>(block ? block : allocate(size)) + kCacheLine;
}

void prefer_huge_pages(void* memory, int64_t bytes) {
  if (bytes < 2 * kHugePage) return;
  const auto begin = reinterpret_cast<uintptr_t>(memory), page = static_cast<uintptr_t>(kHugePage);
  const uintptr_t first = (begin + page - 1) / page * page, end = (begin + static_cast<uintptr_t>(bytes)) / page * page;
  madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);  // advice: failure changes nothing
}

void return_memory(void* memory) { cache.keep(static_cast<char*>(memory) - kCacheLine); }

}  // namespace seqkern::cpu
