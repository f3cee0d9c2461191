// gemm_tests.h with portable vectors.
#include "run_on.h"

#define SEQKERN_ISA tested
#define SEQKERN_VECTOR_BYTES 16
#include "gemm_tests.h"

int main() { return seqkern::test::run_on(Isa::portable, tests); }
