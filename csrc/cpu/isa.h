// Which instruction set the CPU kernels use, chosen when the process first asks.
#pragma once

#include <string>
#include <vector>

namespace seqkern::cpu {

// In rising order: each one includes those before it.
enum class Isa { portable, avx2, avx512, avx512_bf16, amx_bf16 };

// The name used by build_info() and SEQKERN_ISA: "portable", "avx2", "avx512", "avx512_bf16", "amx_bf16".
const char* name(Isa isa);

// The sets that this binary holds kernels for.
std::vector<Isa> compiled_isas();

// The best compiled set that this CPU runs. avx2 means AVX2 and FMA; avx512 means the F, BW, DQ and VL subsets besides;
// avx512_bf16 also the dot product of bfloat16 pairs; amx_bf16 the matrix unit's product of bfloat16 values, and the system's
// leave to use it, which this asks for.
Isa best_isa();

// `best`, or the lower set that `request` names (empty: no request).
// Throws std::runtime_error if `request` is no set's name or names one above `best`.
Isa select_isa(const std::string& request, Isa best);

// select_isa() of the environment variable SEQKERN_ISA and best_isa(), settled by the first call that returns.
Isa current_isa();

}  // namespace seqkern::cpu

// Of an object or a function that the namespaces avx512, avx2 and portable each have, that of the set in use.
#if defined(__x86_64__)
#define SEQKERN_SELECT(name) \
  (current_isa() >= Isa::avx512 ? avx512::name : current_isa() == Isa::avx2 ? avx2::name : portable::name)
#else
#define SEQKERN_SELECT(name) portable::name
#endif
