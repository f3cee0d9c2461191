// What the kernels take that draw classes from an alias table.
//
// Draws are numbered, and the random numbers of a draw are a function of the seed and its number: results depend on neither the
// number of threads nor the device.
#pragma once

#include <cstdint>

#include "math/alias_table.h"

namespace seqkern {

// Independent draws.
struct AliasDrawsParams {
  const math::AliasBucket* buckets;  // [V]
  int64_t classes;                   // V > 0
  const uint64_t* seed;              // [1]
  int64_t count;                     // M
  int64_t* ids;                      // [M], overwritten
  int threads;                       // CPU only
};

// Rows of draws without replacement. A row is drawn by math::draw_distinct.
struct DistinctDrawsParams {
  const math::AliasBucket* buckets;  // [V]
  const int64_t* cumulative;         // [V]: sums of the classes' weights, of which all together are 2^62
  int64_t classes;                   // V > 0
  const uint64_t* seed;              // [1]
  int64_t rows;                      // R
  int64_t count;                     // K >= 0
  const int64_t* target;             // [R]: never drawn in its row; what is no class excludes nothing
  int64_t* ids;                      // [R, K], overwritten; -1 where no class is left
  int32_t* workspace;                // [math::distinct_workspace(K), R], CUDA only
  int threads;                       // CPU only
};

}  // namespace seqkern
