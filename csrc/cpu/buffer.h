// Uninitialised working memory of a kernel call, aligned to a cache line.
#pragma once

#include <cstdint>

namespace seqkern::cpu {

// Memory comes from a cache of this thread's, which keeps at most 512 MiB (buffer.cpp): memory fresh from the operating system
// costs a page fault for every 4 KiB, which for packed weights takes as long as packing them.
void* take_memory(int64_t bytes);
void return_memory(void* memory);

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count)
      : data_(count ? static_cast<T*>(take_memory(count * static_cast<int64_t>(sizeof(T)))) : nullptr) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) return_memory(data_);
  }

  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
};

}  // namespace seqkern::cpu
