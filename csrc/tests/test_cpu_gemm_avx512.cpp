// gemm_tests.h with AVX-512 vectors.
#if defined(__x86_64__)
#include "run_on.h"

#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define SEQKERN_ISA tested
#define SEQKERN_VECTOR_BYTES 64
#include "gemm_tests.h"

int main() { return seqkern::test::run_on(Isa::avx512, tests); }
#else
int main() { return 0; }
#endif
