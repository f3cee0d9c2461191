// Draws of classes on the CPU, and the alias table that they are made from.
#pragma once

#include "params/sampling.h"

namespace seqkern::cpu {

// Makes the alias table of weights [V] that are not negative, and of which the sum is positive and, as its inverse, finite.
//
// Weights become whole numbers: in the table, of the exact sum V 2^32; in the cumulative sums, 2^62. A positive one is at least
// 1; all are off by less than 2, and by rounding errors.
void make_alias_table(const double* weights, int64_t classes, math::AliasBucket* buckets, int64_t* cumulative);

void draw_alias(const AliasDrawsParams& params);
void draw_distinct(const DistinctDrawsParams& params);

}  // namespace seqkern::cpu
