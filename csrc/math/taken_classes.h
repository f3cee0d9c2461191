// The classes that a row of draws without replacement can no longer draw, in three forms: for few, many, and nearly all classes.
//
// Each tells whether a class is new (`take`), for draws by rejection; and, once `order` was called, finds the class at a place on
// the line of those that are left (`at`), for exact draws. All keep the same order of classes, so that it does not matter which
// form a row takes. Their memory is an array of the caller's, not initialised.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace seqkern::math {

// Every so many-th number of an array.
struct Strided {
  int64_t* first;
  int64_t stride;
  SEQKERN_HD int64_t& operator[](int64_t i) const { return first[i * stride]; }
};

// Weights of classes side by side on a line: class v begins where class v - 1 ends, at cumulative[v - 1]. They are much finer
// than shares of buckets, as what is left to draw may be a tiny part of all.
struct WeightLine {
  const int64_t* cumulative;  // [V]
  int64_t classes;

  SEQKERN_HD int64_t begin(int64_t id) const { return id == 0 ? 0 : cumulative[id - 1]; }
  SEQKERN_HD int64_t weight(int64_t id) const { return cumulative[id] - begin(id); }
  SEQKERN_HD int64_t all() const { return cumulative[classes - 1]; }

  // The class at a place: the first that ends behind it.
  SEQKERN_HD int64_t at(int64_t place) const {
    int64_t low = 0, high = classes - 1;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (cumulative[middle] > place)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
};

// Shell's sort, with gaps (3^k - 1) / 2.
SEQKERN_HD void sort_ascending(const Strided& values, int64_t count) {
  int64_t gap = 1;
  while (3 * gap + 1 < count) gap = 3 * gap + 1;
  for (; gap > 0; gap /= 3) {
    for (int64_t i = gap; i < count; ++i) {
      const int64_t value = values[i];
      int64_t at = i;
      for (; at >= gap && values[at - gap] > value; at -= gap) values[at] = values[at - gap];
      values[at] = value;
    }
  }
}

// A list, searched from end to end; later sorted. Exact draws take O(size + log V).
class TakenFew {
 public:
  SEQKERN_HD static int64_t memory(int64_t count) { return count + 1; }
  SEQKERN_HD TakenFew(const Strided& memory, const WeightLine& line) : list_(memory), line_(line) {}

  SEQKERN_HD bool take(int64_t id) {
    for (int64_t i = 0; i < size_; ++i)
      if (list_[i] == id) return false;
    list_[size_++] = id;
    return true;
  }

  // Returns the weight that is left.
  SEQKERN_HD int64_t order() {
    sort_ascending(list_, size_);
    int64_t left = line_.all();
    for (int64_t i = 0; i < size_; ++i) left -= line_.weight(list_[i]);
    return left;
  }

  SEQKERN_HD int64_t at(int64_t place) const {
    for (int64_t i = 0; i < size_ && place >= line_.begin(list_[i]); ++i) place += line_.weight(list_[i]);
    return line_.at(place);
  }

  SEQKERN_HD void insert(int64_t id) {
    int64_t at = size_++;
    for (; at > 0 && list_[at - 1] > id; --at) list_[at] = list_[at - 1];
    list_[at] = id;
  }

 protected:
  Strided list_;
  WeightLine line_;
  int64_t size_ = 0;
};

// The same list, once it is sorted; before, a hash table whose free slots are -1.
class TakenMany : public TakenFew {
 public:
  SEQKERN_HD static int64_t memory(int64_t count) {
    int64_t slots = 1;
    while (slots < 2 * (count + 1)) slots *= 2;
    return slots;
  }
  SEQKERN_HD TakenMany(const Strided& memory, const WeightLine& line, int64_t count)
      : TakenFew(memory, line), slots_(TakenMany::memory(count)) {
    for (int64_t i = 0; i < slots_; ++i) list_[i] = -1;
  }

  SEQKERN_HD bool take(int64_t id) {
    const auto mixed = static_cast<int64_t>((static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u) >> 32);
    for (int64_t at = mixed;; ++at) {
      int64_t& slot = list_[at & (slots_ - 1)];
      if (slot == id) return false;
      if (slot != -1) continue;
      slot = id;
      return true;
    }
  }

  SEQKERN_HD int64_t order() {
    for (int64_t i = 0; i < slots_; ++i)
      if (list_[i] != -1) list_[size_++] = list_[i];
    return TakenFew::order();
  }

 private:
  int64_t slots_;
};

// For each 64 classes, the weight that is left, and a bit a class that is taken. Exact draws take O(V / 64 + 64).
class TakenMost {
 public:
  SEQKERN_HD static int64_t memory(int64_t classes) { return 2 * ((classes + 63) / 64); }
  SEQKERN_HD TakenMost(const Strided& memory, const WeightLine& line)
      : left_(memory), line_(line), blocks_((line.classes + 63) / 64) {
    for (int64_t block = 0; block < blocks_; ++block) {
      const int64_t next = 64 * (block + 1);
      left_[block] = (next < line.classes ? line.begin(next) : line.all()) - line.begin(64 * block);
      left_[blocks_ + block] = 0;
    }
  }

  SEQKERN_HD bool take(int64_t id) {
    if (is_taken(id)) return false;
    insert(id);
    return true;
  }

  SEQKERN_HD int64_t order() const {
    int64_t left = 0;
    for (int64_t block = 0; block < blocks_; ++block) left += left_[block];
    return left;
  }

  SEQKERN_HD int64_t at(int64_t place) const {
    int64_t block = 0;
    while (place >= left_[block]) place -= left_[block++];
    for (int64_t id = 64 * block;; ++id) {
      if (is_taken(id)) continue;
      place -= line_.weight(id);
      if (place < 0) return id;
    }
  }

  SEQKERN_HD void insert(int64_t id) {
    left_[id / 64] -= line_.weight(id);
    int64_t& bits = left_[blocks_ + id / 64];
    bits = static_cast<int64_t>(static_cast<uint64_t>(bits) | uint64_t{1} << id % 64);
  }

 private:
  SEQKERN_HD bool is_taken(int64_t id) const { return static_cast<uint64_t>(left_[blocks_ + id / 64]) >> id % 64 & 1; }

  Strided left_;  // [blocks], then the bits [blocks]
  WeightLine line_;
  int64_t blocks_;
};

}  // namespace seqkern::math
