// What the trainers of word vectors take, on the CPU and on CUDA: skip-gram and continuous bag of words (CBOW), with negative
// sampling or a hierarchical softmax (Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words and
// phrases and their compositionality", 2013).
//
// An example is a vector h and output rows o_r with labels y_r, which are 1 for the word and 0 for negatives (or given by the
// word's path):
//   loss = sum_r -log sigmoid((2 y_r - 1) o_r . h),   g_r = y_r - sigmoid(o_r . h)
//   o_r += rate g_r h,   h's rows += rate scale sum_r g_r o_r
// h is the row of a context word for each context word (skip-gram), or the mean or sum of the rows of all of them (CBOW); with
// subwords, a word stands for several rows.
//
// Whatever is random follows from the seed, the epoch and the place of a word in the text (math/word_vectors.h), and the rate
// from the place: a text may be taken in any slices.
#pragma once

#include <cstdint>

#include "math/alias_table.h"

namespace seqkern {

// Of all lists of rows below, list w is rows[offsets[w] .. offsets[w + 1]). Null stands for absence.
struct WordVectorsParams {
  // The text.
  const int32_t* ids;  // [length]: words in [0, vocabulary), each sentence ended by -1
  int64_t length;
  int64_t begin, end;  // the places to be trained on; their windows may reach beyond them

  // The vectors. Rows are `stride` floats apart, a multiple of 16; the last stride - vector_size of a row are and remain 0.
  int64_t vector_size, stride;
  int64_t vocabulary;
  int64_t input_rows;  // vocabulary or more
  float* input;        // [input_rows, stride]
  float* output;       // [vocabulary, stride]; with paths, [vocabulary - 1, stride]

  // The examples.
  bool cbow;
  int window;               // words to either side
  bool shrink_windows;      // to a number of words drawn from 1 to window, for each word
  const uint32_t* keep;     // [vocabulary]: a word stays in the text with this probability, in 2^-32; null: all stay
  bool mean;                // CBOW, subwords: h is the mean of its rows, else their sum
  bool exact;               // CBOW, subwords: scale is 1 / (number of h's rows) for a mean, as the loss's gradient has it; else 1
  const int32_t* subwords;  // rows of `input` that a word stands for, lists [vocabulary]; null: its own
  const int64_t* subword_offsets;  // [vocabulary + 1]
  int64_t subword_count;           // in all lists
  int64_t most_subwords;           // of a word

  // Negative sampling: so many draws an example, of which those that hit the word itself are left out.
  int negatives;
  bool shared;                     // skip-gram: one draw of negatives for all context words of a word
  const math::AliasBucket* noise;  // [vocabulary]; null without negatives

  // Hierarchical softmax: inner nodes on the way to a word, and the label of each, lists [vocabulary].
  const int32_t* path;
  const uint8_t* path_labels;
  const int64_t* path_offsets;  // [vocabulary + 1]
  int64_t path_count;           // of nodes, on all paths
  int64_t most_nodes;           // on a path

  // The learning rate at a place is rate + place * rate_step.
  double rate, rate_step;
  uint64_t seed;
  uint32_t epoch;
  bool deterministic;  // CPU only: the same result for every number of threads
  int threads;         // CPU only. More than one write the same rows without locks (Recht, Re, Wright and Niu, "Hogwild!", 2011)
  double* totals;      // [3], added to: the loss, the examples, the words that stayed in the text
};

}  // namespace seqkern
