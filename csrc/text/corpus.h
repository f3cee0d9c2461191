// A text file as words and their numbers: counting the words, and writing the text as ids. A line is a sentence.
//
// Results do not depend on the number of threads. Words are bytes; with `strict`, bytes that are no UTF-8 throw
// std::invalid_argument, which tells their place. Files that cannot be read throw as MappedText does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/chunks.h"
#include "text/mapped_text.h"
#include "text/word_table.h"

namespace seqkern::text {

struct CountOptions {
  // Where more distinct words than this are known at the end of a line, or after each 10,000 words of one, those with a count
  // below a threshold are forgotten, and the threshold rises by one from 1: gensim's max_vocab_size. What is forgotten depends on
  // the order of the text, so that one thread reads it then. 0: no limit.
  int64_t max_vocab = 0;
  bool strict = true;
  int threads = 1;
};

struct WordCount {
  std::string_view word;  // in the WordCounts' table
  int64_t count;
  int64_t first;  // offset in the file where it is first found
};

struct WordCounts {
  WordTable table;
  std::vector<WordCount> words;  // by falling count, then by first appearance
  int64_t total = 0;             // words of the text, those forgotten included
  int64_t sentences = 0;         // lines with words
};

WordCounts count_words(const std::string& path, const CountOptions& options, const Poll& poll);

// Writes a text as ids: the words of a sentence in order, unknown ones left out, then -1; sentences without known words are left
// out. Two passes: the constructor counts, fill() writes.
class Encoder {
 public:
  // ids: [words], not negative. Throws std::invalid_argument if a word is there twice.
  Encoder(const std::string& path, const std::vector<std::string>& words, const int32_t* ids, bool strict, int threads,
          const Poll& poll);

  int64_t words() const { return words_; }
  int64_t sentences() const { return sentences_; }
  int64_t size() const { return words_ + sentences_; }  // ids, those of sentence ends included

  // ids: [size()]. Throws std::runtime_error if the file has changed since.
  void fill(int32_t* ids, int threads, const Poll& poll) const;

 private:
  struct Part {
    Chunk chunk;
    int64_t begin, end;  // of its ids
    bool open;           // the line that it begins in has known words before
  };

  MappedText text_;
  WordTable table_;
  std::vector<int32_t> ids_;  // by number in the table
  std::vector<Part> parts_;
  int64_t words_ = 0, sentences_ = 0;
};

}  // namespace seqkern::text
