// The CPU kernels for the instruction sets "avx512_bf16" and "amx_bf16" (cpu/isa.h), where they differ from those for "avx512".
#if defined(__x86_64__)
// Headers with functions of their own come before the target pragma: their inline functions are shared with the rest of the
// binary, and must run on any CPU.
#include "cpu/kernels_common.h"

#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#define SEQKERN_ISA avx512_bf16
#define SEQKERN_VECTOR_BYTES 64
#define SEQKERN_BFLOAT16_DOT 1
#include "cpu/kernels_isa.h"
#endif
