// The random choices of training word vectors, by the place of a word in the text: the same on every device, for every number of
// threads and however a text is cut into slices.
#pragma once

#include <cstdint>

#include "math/philox.h"

namespace seqkern::math {

// Philox's counter is (place, place's upper word, epoch, block). The block kChoices holds, in its first two words, whether the
// word stays in the text and how large its window is; the blocks from 0 on hold two draws of negatives each.
constexpr uint32_t kChoices = 0xFFFFFFFF;

SEQKERN_HD int drawn_window(uint32_t random, int window) {
  return 1 + static_cast<int>(static_cast<uint64_t>(random) * static_cast<uint32_t>(window) >> 32);
}

}  // namespace seqkern::math
