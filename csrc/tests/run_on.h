// Tests of what kernels_<isa>.cpp include. As there, this header comes before the target pragma.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/isa.h"
#include "cpu/kernels_common.h"

namespace seqkern::test {

// Not inlined, since main() is compiled for the instruction set too.
__attribute__((noinline)) inline int run_on(cpu::Isa isa, void (*tests)()) {
  if (isa > cpu::best_isa()) {
    std::printf("skipped: this CPU has no %s\n", name(isa));
    return 0;
  }
  setenv("SEQKERN_ISA", name(isa), 1);  // no more than that, where the kernels choose
  tests();
  return failures();
}

}  // namespace seqkern::test
