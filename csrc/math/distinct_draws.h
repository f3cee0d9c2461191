// Draws without replacement: of the classes that are not yet drawn, each by its share of their weight.
//
// At first by rejection: what is drawn from the alias table is left out if it is there already. This leaves the distribution as
// it is, and takes few attempts, unless K nears the number of classes or a few classes hold almost all weight. So the attempts
// are limited, and what is then missing is drawn from the remaining classes exactly, by search in the cumulative sums of weights.
#pragma once

#include "math/alias_table.h"
#include "math/philox.h"
#include "math/taken_classes.h"

namespace seqkern::math {

constexpr int64_t kFew = 32;      // counts up to it are searched from end to end
constexpr int64_t kMostPart = 8;  // counts of at least this part of the classes keep a bit a class

SEQKERN_HD bool takes_most(int64_t count, int64_t classes) { return count >= classes / kMostPart; }

// Numbers of working memory for a row of K draws of V classes.
SEQKERN_HD int64_t distinct_workspace(int64_t count, int64_t classes) {
  if (count <= kFew) return TakenFew::memory(count);
  return takes_most(count, classes) ? TakenMost::memory(classes) : TakenMany::memory(count);
}

// What a row is drawn from: the same weights as a table and as a line.
struct Weights {
  const AliasBucket* buckets;  // [V]
  WeightLine line;
};

template <class Taken>
SEQKERN_HD void draw_distinct(const Weights& weights, Taken taken, uint64_t seed, int64_t row, int64_t target, int64_t count,
                              int64_t* ids) {
  const auto number = static_cast<uint64_t>(row), most = static_cast<uint64_t>(2 * count + 16);
  const int64_t classes = weights.line.classes;
  if (target >= 0 && target < classes) taken.take(target);
  int64_t found = 0;
  uint64_t attempt = 0;
  PhiloxPair random{};
  const auto next = [&] {
    if (attempt % 2 == 0)
      random = philox_pair(seed, number, attempt / 2);
    else
      random.at[0] = random.at[1];
    ++attempt;
    return random.at[0];
  };
  while (attempt < most && found < count) {
    const int64_t id = draw_alias(weights.buckets, classes, next());
    if (taken.take(id)) ids[found++] = id;
  }
  if (found == count) return;
  int64_t left = taken.order();
  while (left > 0 && found < count) {
    const int64_t id = taken.at(static_cast<int64_t>(multiply_high(next(), static_cast<uint64_t>(left))));
    taken.insert(id);
    left -= weights.line.weight(id);
    ids[found++] = id;
  }
  while (found < count) ids[found++] = -1;
}

// A row of `count` classes, distinct and not `target`; -1 where no class of positive weight is left. A function of weights,
// target, the seed and the number of the row.
SEQKERN_HD void draw_distinct(const Weights& weights, uint64_t seed, int64_t row, int64_t target, int64_t count, int64_t* ids,
                              const Strided& workspace) {
  const WeightLine& line = weights.line;
  if (count <= kFew)
    draw_distinct(weights, TakenFew(workspace, line), seed, row, target, count, ids);
  else if (takes_most(count, line.classes))
    draw_distinct(weights, TakenMost(workspace, line), seed, row, target, count, ids);
  else
    draw_distinct(weights, TakenMany(workspace, line, count), seed, row, target, count, ids);
}

}  // namespace seqkern::math
