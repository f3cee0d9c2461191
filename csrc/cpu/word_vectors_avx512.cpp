// The trainer of word vectors for the instruction set "avx512" (cpu/isa.h).
#if defined(__x86_64__)
// Headers with functions of their own come before the target pragma: their inline functions are shared with the rest of the
// binary, and must run on any CPU.
#include "cpu/kernels_common.h"

#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define SEQKERN_ISA avx512
#define SEQKERN_VECTOR_BYTES 64
#include "cpu/word_vectors.h"
#endif
