// Uninitialised working memory of a kernel call, aligned to a cache line.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

namespace seqkern::cpu {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + kAlignment) / kAlignment * kAlignment;
    data_ = static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  T* get() const { return data_; }

 private:
  static constexpr size_t kAlignment = 64;
  T* data_ = nullptr;
};

}  // namespace seqkern::cpu
