#include "cpu/kernels.h"

#include "cpu/isa.h"

namespace seqkern::cpu {

#define SEQKERN_DECLARE_TABLES(isa)                        \
  namespace isa {                                          \
  extern const KernelTable<float> float_table;             \
  extern const KernelTable<double> double_table;           \
  extern const KernelTable<math::BFloat16> bfloat16_table; \
  extern const KernelTable<math::Float16> float16_table;   \
  }

SEQKERN_DECLARE_TABLES(portable)
#if defined(__x86_64__)
SEQKERN_DECLARE_TABLES(avx2)
SEQKERN_DECLARE_TABLES(avx512)
namespace avx512_bf16 {
extern const KernelTable<math::BFloat16> bfloat16_table;
}
#endif

template <>
const KernelTable<float>& kernels<float>() {
  return SEQKERN_SELECT(float_table);
}

template <>
const KernelTable<double>& kernels<double>() {
  return SEQKERN_SELECT(double_table);
}

template <>
const KernelTable<math::BFloat16>& kernels<math::BFloat16>() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::avx512_bf16) return avx512_bf16::bfloat16_table;
#endif
  return SEQKERN_SELECT(bfloat16_table);
}

template <>
const KernelTable<math::Float16>& kernels<math::Float16>() {
  return SEQKERN_SELECT(float16_table);
}

}  // namespace seqkern::cpu
