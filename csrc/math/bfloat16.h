// bfloat16 as storage: the upper half of a float32. Arithmetic is done in float32.
#pragma once

#include <cstdint>

namespace seqkern::math {

struct BFloat16 {
  uint16_t bits;
};

}  // namespace seqkern::math
