// Random numbers by counter: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).
//
// Four words of 32 bits for each counter of four words, under a key of two. There is no state: whoever numbers what is drawn gets
// the same numbers in whatever order, and on whatever thread or device, they are drawn.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace seqkern::math {

// Both halves of the product of 64 bits; for vectors of words, cpu/philox.h has an overload.
SEQKERN_HD void multiply_wide(uint32_t a, uint32_t b, uint32_t& high, uint32_t& low) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  high = static_cast<uint32_t>(product >> 32);
  low = static_cast<uint32_t>(product);
}

// Four words, or four vectors of words. U: uint32_t or a vector of it.
template <class U>
struct PhiloxWords {
  U at[4];
};

template <class U>
SEQKERN_HD PhiloxWords<U> philox(uint64_t key, PhiloxWords<U> counter) {
  constexpr uint32_t kFactor0 = 0xD2511F53, kFactor1 = 0xCD9E8D57, kStep0 = 0x9E3779B9, kStep1 = 0xBB67AE85;
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    U high0, low0, high1, low1;
    multiply_wide(counter.at[0], kFactor0, high0, low0);
    multiply_wide(counter.at[2], kFactor1, high1, low1);
    counter = {{high1 ^ counter.at[1] ^ key0, low1, high0 ^ counter.at[3] ^ key1, low0}};
    key0 += kStep0;
    key1 += kStep1;
  }
  return counter;
}

// The two numbers of 64 bits of a counter of 128.
struct PhiloxPair {
  uint64_t at[2];
};
SEQKERN_HD PhiloxPair philox_pair(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  const PhiloxWords<uint32_t> words =
      philox(key, PhiloxWords<uint32_t>{{static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
                                         static_cast<uint32_t>(counter_high), static_cast<uint32_t>(counter_high >> 32)}});
  return {{words.at[0] | static_cast<uint64_t>(words.at[1]) << 32, words.at[2] | static_cast<uint64_t>(words.at[3]) << 32}};
}

}  // namespace seqkern::math
