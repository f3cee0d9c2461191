#pragma once

#include "cpu/buffer.h"
#include "cpu/simd.h"

namespace seqkern::cpu::SEQKERN_ISA {

// A growing array of limited capacity. (Standard containers' functions would be shared with code for other instruction sets.)
template <class T>
class Array {
 public:
  explicit Array(int64_t capacity) : capacity_(capacity), memory_(capacity), data_(memory_.get()) {}
  void push(T value) { data_[size_++] = value; }
  void clear() { size_ = 0; }
  int64_t size() const { return size_; }
  int64_t capacity() const { return capacity_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  int64_t capacity_;
  Buffer<T> memory_;
  T* data_;
  int64_t size_ = 0;
};

}  // namespace seqkern::cpu::SEQKERN_ISA
