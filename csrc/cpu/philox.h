// Philox on SIMD vectors: the words of as many counters as a vector has lanes.
#pragma once

#include "cpu/simd.h"

namespace seqkern::math {

SEQKERN_INLINE void multiply_wide(cpu::SEQKERN_ISA::Word32 a, uint32_t b, cpu::SEQKERN_ISA::Word32& high,
                                  cpu::SEQKERN_ISA::Word32& low) {
  using cpu::SEQKERN_ISA::Word32;
#if SEQKERN_VECTOR_BYTES == 64
  const __m512i factor = _mm512_maskz_set1_epi32(0xFFFF, static_cast<int>(b));
  const __m512i even = _mm512_maskz_mul_epu32(0xFF, (__m512i)a, factor);
  const __m512i odd = _mm512_maskz_mul_epu32(0xFF, _mm512_maskz_srli_epi64(0xFF, (__m512i)a, 32), factor);
  high = (Word32)_mm512_mask_mov_epi32(_mm512_maskz_srli_epi64(0xFF, even, 32), 0xAAAA, odd);
  low = a * b;
#elif SEQKERN_VECTOR_BYTES == 32
  const __m256i factor = _mm256_set1_epi32(static_cast<int>(b));
  const __m256i even = _mm256_mul_epu32((__m256i)a, factor);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), factor);
  high = (Word32)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  low = a * b;
#else
  for (int i = 0; i < cpu::SEQKERN_ISA::kLanes<float>; ++i) {
    const uint64_t product = static_cast<uint64_t>(a[i]) * b;
    high[i] = static_cast<uint32_t>(product >> 32);
    low[i] = static_cast<uint32_t>(product);
  }
#endif
}

}  // namespace seqkern::math

#include "math/philox.h"
