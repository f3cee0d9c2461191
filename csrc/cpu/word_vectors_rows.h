// The rows of a matrix that several threads change.
//
// Where two threads write the same rows, each waits for cache lines from the other's cache. So a thread has copies of the first
// rows, which are those of the most frequent words. It publishes a row, which is to add to the matrix what it has changed in its
// copy, and takes what others have published, when it has used the row once, then twice, 4 times, ... up to kMostUses uses among
// all threads. A copy is thus behind by a bounded number of changes, however rare or frequent its row.
#pragma once

#include "cpu/buffer.h"
#include "cpu/simd.h"
#include "cpu/word_vectors_array.h"

namespace seqkern::cpu::SEQKERN_ISA {

class WordVectorsRows {
 public:
  // threads: of which each has such an object; 1: no copies.
  WordVectorsRows(float* matrix, int64_t rows, int64_t stride, int threads)
      : matrix_(matrix),
        stride_(stride),
        most_uses_(kMostUses / threads),
        copied_(threads == 1 || most_uses_ < kLeastUses ? 0 : std::min<int64_t>(rows, kCopiedFloats / stride)),
        left_(copied_),
        period_(copied_),
        copies_(copied_ * stride),
        published_(copied_ * stride),
        due_(kMostDue) {
    std::fill_n(left_.get(), copied_, 1);
    std::fill_n(period_.get(), copied_, 0);
  }

  // A row, to be read and changed until the next call of publish_due().
  SEQKERN_INLINE float* use(int64_t row) {
    if (row >= copied_) return matrix_ + row * stride_;
    if (--left_.get()[row] == 0) turn(row);
    return copies_.get() + row * stride_;
  }

  void prefetch(int64_t row) const { prefetch_row((row < copied_ ? copies_.get() : matrix_) + row * stride_); }

  // Publishes the rows whose turn had come by the last call: by now they are in the caches.
  void publish_due() {
    const int64_t size = due_.size();
    due_.clear();
    for (int64_t i = 0; i < size; ++i) i < arrived_ ? publish(due_[i]) : due_.push(due_[i]);
    arrived_ = due_.size();
  }

  // Publishes all rows. None is to be used after that.
  void finish() {
    for (int64_t row = 0; row < copied_; ++row)
      if (period_.get()[row] > 0) publish(row);
  }

 private:
  static constexpr int kMostUses = 128, kLeastUses = 4;
  static constexpr int64_t kCopiedFloats = 1 << 20, kMostDue = 256;

  // Copies a row that is used for the first time; else its copy is due to be published, now where many are.
  __attribute__((noinline)) void turn(int64_t row) {
    int16_t& period = period_.get()[row];
    if (period == 0) {
      std::copy_n(matrix_ + row * stride_, stride_, copies_.get() + row * stride_);
      std::copy_n(matrix_ + row * stride_, stride_, published_.get() + row * stride_);
      period = 1;
    } else {
      period = static_cast<int16_t>(std::min(2 * period, most_uses_));
      if (due_.size() == due_.capacity()) {
        publish(row);
      } else {
        prefetch_row(matrix_ + row * stride_);
        prefetch_row(published_.get() + row * stride_);
        due_.push(row);
      }
    }
    left_.get()[row] = period;
  }

  void publish(int64_t row) {
    for (int64_t i = row * stride_; i < (row + 1) * stride_; i += kLanes<float>) {
      const Float x = load(matrix_ + i) + (load(copies_.get() + i) - load(published_.get() + i));
      store(matrix_ + i, x);
      store(copies_.get() + i, x);
      store(published_.get() + i, x);
    }
  }

  void prefetch_row(const float* row) const {
    for (int64_t i = 0; i < stride_; i += 16) __builtin_prefetch(row + i, 1, 3);
  }

  float* const matrix_;
  const int64_t stride_;
  const int most_uses_;  // of a row, by this thread, until it is published
  const int64_t copied_;
  // [copied]: uses until a row's next turn, and between turns; a period of 0: not yet copied. (No bytes, which might alias all.)
  Buffer<int16_t> left_, period_;
  Buffer<float> copies_, published_;  // [copied, stride]; as they were last published
  Array<int64_t> due_;                // rows
  int64_t arrived_ = 0;               // so many of them
};

}  // namespace seqkern::cpu::SEQKERN_ISA
