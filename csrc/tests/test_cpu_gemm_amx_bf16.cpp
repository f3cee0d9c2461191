// gemm_tests.h with AVX-512 vectors and, for bfloat16 products, the matrix unit.
#if defined(__x86_64__)
#include "run_on.h"

#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#define SEQKERN_ISA tested
#define SEQKERN_VECTOR_BYTES 64
#define SEQKERN_BFLOAT16_DOT 1
#include "gemm_tests.h"

int main() { return seqkern::test::run_on(Isa::amx_bf16, tests); }
#else
int main() { return 0; }
#endif
