// Draws of classes on the CPU, and the alias table that they are made from.
#pragma once

#include "params/sampling.h"

namespace seqkern::cpu {

// Makes the alias table of weights [V] that are not negative, and of which the sum is positive and, as its inverse, finite.
//
// Weights become whole numbers, in 2^-32 of a bucket, with the exact sum V 2^32: their cumulative sums are returned, and the
// table is exact for them. A positive weight is at least 1; the others are off by less than 2, and rounding errors.
void make_alias_table(const double* weights, int64_t classes, math::AliasBucket* buckets, int64_t* cumulative);

void draw_alias(const AliasDrawsParams& params);
void draw_distinct(const DistinctDrawsParams& params);

}  // namespace seqkern::cpu
