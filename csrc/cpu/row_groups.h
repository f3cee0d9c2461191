// The uses of a matrix's rows, sorted by row: whoever adds up what belongs to a row meets it at once, in a fixed order.
//
// A use is packed with its row into 64 bits, and these are sorted by the row's bits alone, from the lowest digit: uses of one row
// keep their order. One thread does it: for the few ten thousand uses of a batch, in less time than their vectors take to read.
#pragma once

#include "cpu/buffer.h"

namespace seqkern::cpu::SEQKERN_ISA {

class RowGroups {
 public:
  // rows(i) is the row of use i < count: less than `size`, or negative for a use that is left out.
  template <class Rows>
  void build(int64_t count, int64_t size, const Rows& rows) {
    allocate(count);
    use_bits_ = bits_of(count);
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = rows(i);
      if (row >= 0) sorted_[kept++] = static_cast<uint64_t>(row) << use_bits_ | static_cast<uint64_t>(i);
    }
    sort(kept, bits_of(size));
    groups_ = 0;
    for (int64_t at = 0; at < kept; ++at)
      if (at == 0 || row_at(at) != row_at(at - 1)) starts_[groups_++] = at;
    starts_[groups_] = kept;
  }

  // The groups that one of several threads takes: those that begin in its part of the uses.
  Range part_of(const Worker& worker) const {
    const Range uses = worker.part_of(starts_[groups_]);
    const auto group_at = [&](int64_t at) { return std::lower_bound(starts_, starts_ + groups_, at) - starts_; };
    return {group_at(uses.begin), group_at(uses.end)};
  }

  int64_t row(int64_t group) const { return row_at(starts_[group]); }
  int64_t uses(int64_t group) const { return starts_[group + 1] - starts_[group]; }
  int64_t use(int64_t group, int64_t i) const {
    return static_cast<int64_t>(sorted_[starts_[group] + i] & ((uint64_t{1} << use_bits_) - 1));
  }

 private:
  static int bits_of(int64_t count) { return count <= 1 ? 1 : 64 - __builtin_clzll(static_cast<uint64_t>(count - 1)); }

  void allocate(int64_t count) {
    memory_.emplace(3 * count + 1);
    sorted_ = memory_->get();
    other_ = sorted_ + count;
    starts_ = reinterpret_cast<int64_t*>(other_ + count);
  }

  int64_t row_at(int64_t at) const { return static_cast<int64_t>(sorted_[at] >> use_bits_); }

  void sort(int64_t count, int row_bits) {
    constexpr int kMostDigitBits = 11;
    const int most = count < 4096 ? 8 : kMostDigitBits;  // the counters of few uses are not to outweigh them
    const int rounds = (row_bits + most - 1) / most, digit_bits = (row_bits + rounds - 1) / rounds;
    const uint64_t mask = (uint64_t{1} << digit_bits) - 1;
    for (int round = 0; round < rounds; ++round) {
      const int shift = use_bits_ + round * digit_bits;
      uint32_t places[1 << kMostDigitBits];
      std::fill_n(places, mask + 1, 0u);
      for (int64_t i = 0; i < count; ++i) ++places[sorted_[i] >> shift & mask];
      uint32_t next = 0;
      for (uint64_t digit = 0; digit <= mask; ++digit) next += std::exchange(places[digit], next);
      for (int64_t i = 0; i < count; ++i) other_[places[sorted_[i] >> shift & mask]++] = sorted_[i];
      std::swap(sorted_, other_);
    }
  }

  std::optional<Buffer<uint64_t>> memory_;
  uint64_t *sorted_ = nullptr, *other_ = nullptr;  // [uses]
  int64_t* starts_ = nullptr;                      // [groups + 1]
  int64_t groups_ = 0;
  int use_bits_ = 0;
};

}  // namespace seqkern::cpu::SEQKERN_ISA
