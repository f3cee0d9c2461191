// How often words stand near each other: a sparse symmetric matrix.
#pragma once

#include <cstdint>
#include <vector>

#include "text/chunks.h"

namespace seqkern::text {

// Compressed rows, the columns of a row in rising order.
template <class Value>
struct SparseRows {
  std::vector<int64_t> row_begin;  // [rows + 1]
  std::vector<int32_t> columns;    // [row_begin[rows]]
  std::vector<Value> values;       // as columns
};

// Element (i, j) is the sum of weights[d - 1] over all pairs of an i and a j at distance d <= weights.size() in one sentence.
// ids: [length], -1 ends a sentence. The result does not depend on the number of threads. Throws std::out_of_range for an id that
// is below -1 or not below vocab_size. Compiled for int64_t and double.
template <class Value>
SparseRows<Value> cooccurrence(const int32_t* ids, int64_t length, int32_t vocab_size, const std::vector<Value>& weights,
                               int threads, const Poll& poll);

}  // namespace seqkern::text
