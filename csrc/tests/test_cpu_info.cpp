// Choice of the instruction set (cpu/isa.h).
#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "check.h"
#include "cpu/isa.h"

using seqkern::cpu::Isa;
using seqkern::cpu::select_isa;

int main() {
  // Without a request the best set is used, and any lower one can be asked for by its name.
  CHECK(select_isa("", Isa::amx_bf16) == Isa::amx_bf16);
  CHECK(select_isa("", Isa::portable) == Isa::portable);
  CHECK(select_isa("avx512_bf16", Isa::avx512_bf16) == Isa::avx512_bf16);
  CHECK(select_isa("avx512_bf16", Isa::amx_bf16) == Isa::avx512_bf16);
  CHECK(select_isa("avx512", Isa::avx512_bf16) == Isa::avx512);
  CHECK(select_isa("avx2", Isa::avx512) == Isa::avx2);
  CHECK(select_isa("portable", Isa::avx2) == Isa::portable);

  // More than the CPU has, or a word that names no set, is an error.
  CHECK_THROWS(select_isa("amx_bf16", Isa::avx512_bf16), std::runtime_error);
  CHECK_THROWS(select_isa("avx512_bf16", Isa::avx512), std::runtime_error);
  CHECK_THROWS(select_isa("avx512", Isa::avx2), std::runtime_error);
  CHECK_THROWS(select_isa("avx2", Isa::portable), std::runtime_error);
  CHECK_THROWS(select_isa("AVX2", Isa::avx512), std::runtime_error);
  CHECK_THROWS(select_isa("neon", Isa::avx512), std::runtime_error);

  // Names are those that select_isa reads.
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx_bf16})
    CHECK(select_isa(name(isa), Isa::amx_bf16) == isa);

  // What runs here was compiled in, and the choice does not change once it is made.
  const auto compiled = seqkern::cpu::compiled_isas();
  CHECK(std::find(compiled.begin(), compiled.end(), seqkern::cpu::best_isa()) != compiled.end());
  setenv("SEQKERN_ISA", "portable", 1);
  CHECK(seqkern::cpu::current_isa() == Isa::portable);
  setenv("SEQKERN_ISA", "nonsense", 1);
  CHECK(seqkern::cpu::current_isa() == Isa::portable);
  return seqkern::test::failures();
}
