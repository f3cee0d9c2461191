#include "cpu/word_vectors.h"

#include "cpu/isa.h"

namespace seqkern::cpu {

namespace portable {
void train_word_vectors(const WordVectorsParams& p);
}
#if defined(__x86_64__)
namespace avx2 {
void train_word_vectors(const WordVectorsParams& p);
}
namespace avx512 {
void train_word_vectors(const WordVectorsParams& p);
}
#endif

void train_word_vectors(const WordVectorsParams& p) { SEQKERN_SELECT(train_word_vectors)(p); }

}  // namespace seqkern::cpu
