// gemm_tests.h with AVX2 vectors.
#if defined(__x86_64__)
#include "run_on.h"

#pragma GCC target("avx2,fma")
#define SEQKERN_ISA tested
#define SEQKERN_VECTOR_BYTES 32
#include "gemm_tests.h"

int main() { return seqkern::test::run_on(Isa::avx2, tests); }
#else
int main() { return 0; }
#endif
