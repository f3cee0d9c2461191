#include "cpu/isa.h"

#include <cstdlib>
#include <stdexcept>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace seqkern::cpu {

#if defined(__x86_64__)
namespace {

// Whether the CPU has AMX for bfloat16, and Linux lets this process use its registers, which it does from 5.16 on.
bool has_amx() {
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;  // in edx
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kAmxBf16) || !(d & kAmxTile)) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of the registers' part of the state
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

}  // namespace
#endif

const char* name(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx_bf16:
      return "amx_bf16";
  }
  throw std::runtime_error("name(Isa): no such instruction set");
}

std::vector<Isa> compiled_isas() {
#if defined(__x86_64__)
  return {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx_bf16};
#else
  return {Isa::portable};
#endif
}

Isa best_isa() {
#if defined(__x86_64__)
  // These read the state that the operating system saves as well as what the CPU has.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (avx512_bf16 && has_amx()) return Isa::amx_bf16;
  if (avx512_bf16) return Isa::avx512_bf16;
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::portable;
}

Isa select_isa(const std::string& request, Isa best) {
  if (request.empty()) return best;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx_bf16}) {
    if (request != name(isa)) continue;
    if (isa > best) {
      throw std::runtime_error("SEQKERN_ISA=" + request + " asks for more than this CPU has, which is " + name(best));
    }
    return isa;
  }
  throw std::runtime_error("SEQKERN_ISA=" + request + " is unknown; expected portable, avx2, avx512, " +
                           "avx512_bf16 or amx_bf16");
}

Isa current_isa() {
  static const Isa isa = [] {
    const char* request = std::getenv("SEQKERN_ISA");
    return select_isa(request ? request : "", best_isa());
  }();
  return isa;
}

}  // namespace seqkern::cpu
