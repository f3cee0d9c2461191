// Draws from a discrete distribution in constant time, by Walker's alias method: V buckets of equal probability, each divided
// between its own class and one other.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace seqkern::math {

// In memory, the two are a row of an int32 tensor [V, 2].
struct AliasBucket {
  uint32_t share;  // of the bucket that is its own class's, in 2^-32
  int32_t alias;   // whose the rest is; the class itself where all is its own
};

SEQKERN_HD uint64_t multiply_high(uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  __extension__ typedef unsigned __int128 Wide;
  return static_cast<uint64_t>(static_cast<Wide>(a) * b >> 64);
#endif
}

// The class of a random number of 64 bits: the whole part of random / 2^64 * V chooses the bucket, the fraction the class.
SEQKERN_HD int64_t draw_alias(const AliasBucket* buckets, int64_t classes, uint64_t random) {
  const uint64_t bucket = multiply_high(random, static_cast<uint64_t>(classes));
  const uint32_t fraction = static_cast<uint32_t>(random * static_cast<uint64_t>(classes) >> 32);
  const AliasBucket found = buckets[bucket];
  return fraction < found.share ? static_cast<int64_t>(bucket) : found.alias;
}

}  // namespace seqkern::math
