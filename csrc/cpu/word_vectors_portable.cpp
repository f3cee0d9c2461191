// The trainer of word vectors for the instruction set "portable" (cpu/isa.h).
// Headers with functions of their own come before the target pragma: their inline functions are shared with the rest of the
// binary, and must run on any CPU.
#include "cpu/kernels_common.h"

#define SEQKERN_ISA portable
#define SEQKERN_VECTOR_BYTES 16
#include "cpu/word_vectors.h"
