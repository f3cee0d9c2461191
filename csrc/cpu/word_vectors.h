// Training of word vectors on the CPU, by the kernel for the instruction set in use (cpu/word_vectors_trainer.h).
#pragma once

#include "params/word_vectors.h"

namespace seqkern::cpu {

void train_word_vectors(const WordVectorsParams& p);

}  // namespace seqkern::cpu
