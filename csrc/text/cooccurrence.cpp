// A row at a time: the places of its word are known, so a thread adds up the neighbours of all of them in a dense row of its own.
// That takes no hash table and no merging, and a row's sum has one order.
#include "text/cooccurrence.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace seqkern::text {

namespace {

// The places of every word in the text, by word.
struct Places {
  std::vector<int64_t> begin;  // [vocab_size + 1]
  std::vector<int64_t> at;     // [begin[vocab_size]], rising for a word
};

Places find_places(const int32_t* ids, int64_t length, int32_t vocab_size) {
  Places places;
  std::vector<int64_t>& begin = places.begin;
  begin.resize(static_cast<size_t>(vocab_size) + 1);
  for (int64_t i = 0; i < length; ++i) {
    if (ids[i] < -1 || ids[i] >= vocab_size)
      throw std::out_of_range("ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) + ", expected -1 or 0 ... " +
                              std::to_string(vocab_size - 1));
    if (ids[i] >= 0) ++begin[static_cast<size_t>(ids[i]) + 1];
  }
  for (size_t word = 1; word < begin.size(); ++word) begin[word] += begin[word - 1];
  places.at.resize(static_cast<size_t>(begin.back()));
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  for (int64_t i = 0; i < length; ++i)
    if (ids[i] >= 0) places.at[static_cast<size_t>(next[static_cast<size_t>(ids[i])]++)] = i;
  return places;
}

// Rows in blocks of about as many places each; returns where blocks begin, and the number of rows.
std::vector<int32_t> cut_rows(const Places& places) {
  constexpr int64_t kBlocks = 256;
  const auto rows = static_cast<int32_t>(places.begin.size() - 1);
  const int64_t share = places.begin.back() / kBlocks + 1;
  std::vector<int32_t> blocks{0};
  for (int32_t row = 1; row <= rows; ++row) {
    const int64_t held = places.begin[static_cast<size_t>(row)] - places.begin[static_cast<size_t>(blocks.back())];
    if (held >= share || row == rows) blocks.push_back(row);
  }
  return blocks;
}

template <class Value>
class RowSum {
 public:
  explicit RowSum(int32_t columns) : sums_(static_cast<size_t>(columns)), touched_(static_cast<size_t>(columns)) {}

  void add(int32_t column, Value value) {
    const auto i = static_cast<size_t>(column);
    if (!touched_[i]) columns_.push_back(column);
    touched_[i] = 1;
    sums_[i] += value;
  }

  // Appends the row to `rows`, and begins a new one.
  void finish(SparseRows<Value>& rows) {
    std::sort(columns_.begin(), columns_.end());
    for (const int32_t column : columns_) {
      const auto i = static_cast<size_t>(column);
      rows.columns.push_back(column);
      rows.values.push_back(sums_[i]);
      sums_[i] = 0;
      touched_[i] = 0;
    }
    columns_.clear();
    rows.row_begin.push_back(static_cast<int64_t>(rows.columns.size()));
  }

 private:
  std::vector<Value> sums_;
  std::vector<uint8_t> touched_;
  std::vector<int32_t> columns_;  // those touched
};

}  // namespace

template <class Value>
SparseRows<Value> cooccurrence(const int32_t* ids, int64_t length, int32_t vocab_size, const std::vector<Value>& weights,
                               int threads, const Poll& poll) {
  const Places places = find_places(ids, length, vocab_size);
  const std::vector<int32_t> blocks = cut_rows(places);
  const auto window = static_cast<int64_t>(weights.size());

  std::vector<SparseRows<Value>> parts(blocks.size() - 1);
  std::vector<RowSum<Value>> sums(static_cast<size_t>(std::max(1, threads)), RowSum<Value>(vocab_size));
  for_each_chunk(static_cast<int>(sums.size()), parts.size(), poll, [&](int thread, size_t block) {
    RowSum<Value>& sum = sums[static_cast<size_t>(thread)];
    for (int32_t row = blocks[block]; row < blocks[block + 1]; ++row) {
      for (int64_t k = places.begin[static_cast<size_t>(row)]; k < places.begin[static_cast<size_t>(row) + 1]; ++k) {
        const int64_t place = places.at[static_cast<size_t>(k)];
        const int64_t before = std::min(window, place), after = std::min(window, length - 1 - place);
        for (int64_t d = 1; d <= before && ids[place - d] >= 0; ++d) sum.add(ids[place - d], weights[static_cast<size_t>(d - 1)]);
        for (int64_t d = 1; d <= after && ids[place + d] >= 0; ++d) sum.add(ids[place + d], weights[static_cast<size_t>(d - 1)]);
      }
      sum.finish(parts[block]);
    }
  });

  SparseRows<Value> all;
  size_t elements = 0;
  for (const SparseRows<Value>& part : parts) elements += part.columns.size();
  all.columns.reserve(elements);
  all.values.reserve(elements);
  all.row_begin.push_back(0);
  for (SparseRows<Value>& part : parts) {
    const auto shift = static_cast<int64_t>(all.columns.size());
    for (const int64_t end : part.row_begin) all.row_begin.push_back(shift + end);
    all.columns.insert(all.columns.end(), part.columns.begin(), part.columns.end());
    all.values.insert(all.values.end(), part.values.begin(), part.values.end());
    part = SparseRows<Value>();
  }
  return all;
}

template SparseRows<int64_t> cooccurrence(const int32_t*, int64_t, int32_t, const std::vector<int64_t>&, int, const Poll&);
template SparseRows<double> cooccurrence(const int32_t*, int64_t, int32_t, const std::vector<double>&, int, const Poll&);

}  // namespace seqkern::text
