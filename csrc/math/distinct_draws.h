// Draws without replacement: of the classes that are not yet drawn, each by its share of their weight.
//
// At first by rejection: what is drawn from the alias table is left out if it is there already. This leaves the distribution as
// it is, and takes few attempts, unless K nears the number of classes or a few classes hold almost all weight. So the attempts
// are limited, and what is then missing is drawn from the remaining classes exactly, by search in the cumulative sums of weights.
#pragma once

#include "math/alias_table.h"
#include "math/philox.h"

namespace seqkern::math {

constexpr int64_t kSearchedCount = 32;  // so many classes are compared one by one; more are in a hash table

// A power of two, at least twice the number of entries.
SEQKERN_HD int64_t hash_slots(int64_t count) {
  int64_t slots = 2 * kSearchedCount;
  while (slots < 2 * count) slots *= 2;
  return slots;
}

// Numbers of working memory for a row of K draws: the hash table of what is drawn, then (K and the target) the sorted list.
SEQKERN_HD int64_t distinct_workspace(int64_t count) { return count <= kSearchedCount ? count + 1 : hash_slots(count); }

// Every so many-th number of an array.
struct Strided {
  int32_t* first;
  int64_t stride;
  SEQKERN_HD int32_t& operator[](int64_t i) const { return first[i * stride]; }
};

// Random numbers of 64 bits: number `attempt` of row `row`.
SEQKERN_HD uint64_t random_of(uint64_t seed, uint64_t row, uint64_t attempt) {
  const PhiloxPair pair = philox_pair(seed, row, attempt / 2);
  return attempt % 2 == 0 ? pair.at[0] : pair.at[1];
}

// Adds a class to a hash table of slots that are -1 where they are free; false if it was there.
SEQKERN_HD bool insert_hashed(const Strided& table, int64_t slots, int32_t id) {
  const uint64_t mixed = (static_cast<uint32_t>(id) * 0x9E3779B97F4A7C15u) >> 32;
  for (uint64_t at = mixed;; ++at) {
    int32_t& slot = table[static_cast<int64_t>(at & static_cast<uint64_t>(slots - 1))];
    if (slot == id) return false;
    if (slot != -1) continue;
    slot = id;
    return true;
  }
}

SEQKERN_HD bool is_among(int64_t id, const int64_t* ids, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (ids[i] == id) return true;
  return false;
}

// Shell's sort, with gaps (3^k - 1) / 2.
SEQKERN_HD void sort_ascending(const Strided& values, int64_t count) {
  int64_t gap = 1;
  while (3 * gap + 1 < count) gap = 3 * gap + 1;
  for (; gap > 0; gap /= 3) {
    for (int64_t i = gap; i < count; ++i) {
      const int32_t value = values[i];
      int64_t at = i;
      for (; at >= gap && values[at - gap] > value; at -= gap) values[at] = values[at - gap];
      values[at] = value;
    }
  }
}

// Weights of classes side by side on a line: class v begins where class v - 1 ends, at cumulative[v - 1]. They are much finer
// than shares of buckets, as what is left to draw may be a tiny part of all.
struct WeightLine {
  const int64_t* cumulative;  // [V]
  int64_t classes;

  SEQKERN_HD int64_t begin(int64_t id) const { return id == 0 ? 0 : cumulative[id - 1]; }
  SEQKERN_HD int64_t weight(int64_t id) const { return cumulative[id] - begin(id); }

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

// Draws classes `found` to `count` - 1 of a row, given those before, exactly: each takes time O(count + log V).
SEQKERN_HD void draw_remaining(const WeightLine& line, uint64_t seed, int64_t row, uint64_t attempt, int64_t target,
                               int64_t found, int64_t count, int64_t* ids, const Strided& excluded) {
  int64_t size = 0;
  if (target >= 0 && target < line.classes) excluded[size++] = static_cast<int32_t>(target);
  for (int64_t i = 0; i < found; ++i) excluded[size++] = static_cast<int32_t>(ids[i]);
  sort_ascending(excluded, size);
  int64_t left = line.cumulative[line.classes - 1];
  for (int64_t i = 0; i < size; ++i) left -= line.weight(excluded[i]);

  for (; found < count && left > 0; ++found) {
    // A place on the line without what is excluded; then with it.
    auto place =
        static_cast<int64_t>(multiply_high(random_of(seed, static_cast<uint64_t>(row), attempt++), static_cast<uint64_t>(left)));
    for (int64_t i = 0; i < size && place >= line.begin(excluded[i]); ++i) place += line.weight(excluded[i]);
    const int64_t id = line.at(place);
    ids[found] = id;
    left -= line.weight(id);
    int64_t at = size++;
    for (; at > 0 && excluded[at - 1] > id; --at) excluded[at] = excluded[at - 1];
    excluded[at] = static_cast<int32_t>(id);
  }
  for (; found < count; ++found) ids[found] = -1;
}

// A row of `count` classes, distinct and not `target`; -1 where no class of positive weight is left. Of the number of the row and
// the seed alone.
SEQKERN_HD void draw_distinct(const AliasBucket* buckets, const WeightLine& line, uint64_t seed, int64_t row, int64_t target,
                              int64_t count, int64_t* ids, const Strided& workspace) {
  const bool hashed = count > kSearchedCount;
  const int64_t slots = hashed ? hash_slots(count) : 0;
  for (int64_t i = 0; i < slots; ++i) workspace[i] = -1;
  const auto most = static_cast<uint64_t>(4 * count + 16);
  int64_t found = 0;
  PhiloxPair pair{};
  for (uint64_t attempt = 0; attempt < most && found < count; ++attempt) {
    if (attempt % 2 == 0)
      pair = philox_pair(seed, static_cast<uint64_t>(row), attempt / 2);
    else
      pair.at[0] = pair.at[1];
    const int64_t id = draw_alias(buckets, line.classes, pair.at[0]);
    if (id == target) continue;
    if (hashed ? insert_hashed(workspace, slots, static_cast<int32_t>(id)) : !is_among(id, ids, found)) ids[found++] = id;
  }
  if (found < count) draw_remaining(line, seed, row, most, target, found, count, ids, workspace);
}

}  // namespace seqkern::math
