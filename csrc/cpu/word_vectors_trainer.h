// Training of word vectors (params/word_vectors.h has the equations).
//
// The examples of a word (skip-gram: one for each context word), or of kBags words (CBOW), are taken together: first all dots,
// then the errors of all of them, then rows change, example by example. So no dot has to wait for the change before it.
//
// Included by word_vectors_<isa>.cpp after the target pragma.
//
// With one thread, what comes out depends on nothing but the parameters. Several threads take chunks of the text as they come,
// and change the same rows without locks (word_vectors_rows.h). In deterministic training, threads go through the text in rounds
// of kPieces pieces: first they find the errors of the pieces' examples, then each changes the output rows that are its own, then
// the input rows: each row by all examples in their order. So the result is the same for every number of threads, but within a
// round no example sees the changes of others.
#pragma once

#include "cpu/parallel.h"
#include "cpu/word_vectors_rows.h"
#include "cpu/word_vectors_step.h"
#include "cpu/word_vectors_text.h"

namespace seqkern::cpu::SEQKERN_ISA {

class WordVectorsTrainer {
 public:
  // For so many words at a time. threads: that train at once.
  WordVectorsTrainer(const WordVectorsParams& p, int64_t words, int threads)
      : p_(p),
        draws_(p.noise == nullptr ? 0 : p.negatives),
        text_(p),
        examples_(words * (p.cbow ? 1 : 2 * text_.reach(p))),
        input_rows_(examples_.capacity() * (p.cbow ? 2 * text_.reach(p) : 1) * std::max<int64_t>(1, p.most_subwords)),
        outputs_(examples_.capacity() * (draws_ + 1 + p.most_nodes) + kLanes<float>),
        means_(examples_.capacity() * p.stride),
        changes_((p.deterministic ? examples_.capacity() : 1) * p.stride),
        inputs_(p.input, p.input_rows, p.stride, copying(p, threads)),
        output_rows_(p.output, p.vocabulary - (p.path != nullptr), p.stride, copying(p, threads)) {}
  WordVectorsTrainer(const WordVectorsParams& p, int threads) : WordVectorsTrainer(p, kBags, threads) {}

  // Trains on the places [begin, end), WordVectorsText::kChunk or fewer.
  void train(int64_t begin, int64_t end) {
    losses_ = Float{};
    read(begin, end, [&] {
      if (!p_.cbow)
        p_.subwords == nullptr ? finish<true>() : finish<false>();
      else if (examples_.size() == kBags)
        finish<false>();
    });
    finish<false>();
    loss += reduce_sum<float>(losses_);
  }

  // To be called when all is trained.
  void publish() {
    inputs_.finish();
    output_rows_.finish();
  }

  // Deterministic training: finds the errors of the examples of the places [begin, end), kPiecePlaces or fewer, and what they add
  // to input rows.
  void find(int64_t begin, int64_t end) {
    clear();
    losses_ = Float{};
    read(begin, end, [] {});
    examples += examples_.size();
    find_dots<false>();
    find_errors();
    loss += reduce_sum<float>(losses_);
    for (int64_t e = 0, output = 0; e < examples_.size(); output = examples_[e++].outputs)
      sum_rows(outputs_.rows.get() + output, outputs_.errors.get() + output, examples_[e].outputs - output, p_.stride,
               change_of(e));
  }

  // Changes the output rows, and then the input rows, that are this worker's.
  void change_own_outputs(const Worker& worker) {
    for (int64_t e = 0, output = 0; e < examples_.size(); ++e)
      for (; output < examples_[e].outputs; ++output)
        if (is_own(outputs_.rows.get()[output] - p_.output, worker))
          change_inputs(outputs_.rows.get() + output, 1, examples_[e].hidden, outputs_.errors.get()[output], p_.stride);
  }
  void change_own_inputs(const Worker& worker) {
    for (int64_t e = 0, input = 0; e < examples_.size(); ++e) {
      const float scale = input_scale(examples_[e].inputs - input);
      for (; input < examples_[e].inputs; ++input)
        if (is_own(input_rows_[input] - p_.input, worker)) change_inputs(&input_rows_[input], 1, change_of(e), scale, p_.stride);
    }
  }

  double loss = 0;
  int64_t examples = 0, words = 0;

 private:
  static constexpr int kBags = 4;

  // Of so many threads, those with copies of rows, or 1. CBOW and hierarchical softmax have none: both were measured to learn
  // less well from them.
  static int copying(const WordVectorsParams& p, int threads) { return p.cbow || p.path != nullptr ? 1 : threads; }

  // Whether a row, by its offset, is the worker's.
  static bool is_own(int64_t offset, const Worker& worker) {
    const uint64_t mixed = static_cast<uint64_t>(offset) * 0x9E3779B97F4A7C15 >> 40;
    return static_cast<int>(mixed % static_cast<uint64_t>(worker.team)) == worker.thread;
  }
  float* change_of(int64_t e) { return changes_.get() + e * p_.stride; }

  // Up to where its input and output rows go, which begin where those of the example before end.
  struct Example {
    int64_t inputs, outputs;
    float* hidden;
  };

  // Output rows and what goes with each. A rate of 0 leaves a row out.
  struct Outputs {
    explicit Outputs(int64_t capacity) : rows(capacity), labels(capacity), rates(capacity), errors(capacity) {}
    Buffer<float*> rows;
    Buffer<float> labels, rates, errors;
    int64_t size = 0;
  };

  // Adds the examples of places, and calls after() after those of each word.
  template <class After>
  void read(int64_t begin, int64_t end, const After& after) {
    text_.take(begin, end);
    for (int64_t first, last; text_.next(first, last);) {
      const int32_t* drawn = text_.drawn();
      for (int64_t i = first; i < last; ++i) {
        const Entry& entry = text_[i];
        words += entry.word >= 0;
        if (entry.before + entry.after == 0) continue;
        add_examples(i, drawn);
        drawn += text_.draws_of(entry);
        after();
      }
    }
  }

  void add_examples(int64_t i, const int32_t* drawn) {
    const Entry& entry = text_[i];
    rate_ = static_cast<float>(p_.rate + static_cast<double>(entry.place) * p_.rate_step);
    prefetch(output_rows_, text_[i + 1].word);
    if (i + p_.window + 1 < text_.size()) prefetch(inputs_, text_[i + p_.window + 1].word);
    for (int64_t context = i - entry.before; context <= i + entry.after; ++context) {
      if (context == i) continue;
      add_inputs(text_[context].word);
      if (p_.cbow) continue;
      add_example(entry.word, drawn);
      if (!p_.shared) drawn += draws_;
    }
    if (p_.cbow) add_example(entry.word, drawn);
  }

  // Adds to the next example's h the rows that a word stands for.
  void add_inputs(int32_t word) {
    if (p_.subwords == nullptr) {
      input_rows_.push(inputs_.use(word));
      return;
    }
    for (int64_t i = p_.subword_offsets[word]; i < p_.subword_offsets[word + 1]; ++i)
      input_rows_.push(inputs_.use(p_.subwords[i]));
  }

  // Adds the example whose h is of the rows added since the last one: against the word and its negatives, and the nodes on its
  // path.
  void add_example(int32_t word, const int32_t* drawn) {
    int64_t size = outputs_.size;
    float** const rows = outputs_.rows.get();
    float *const labels = outputs_.labels.get(), *const rates = outputs_.rates.get();
    const auto push = [&](int32_t row, float label, float rate) {
      rows[size] = output_rows_.use(row);
      labels[size] = label;
      rates[size++] = rate;
    };
    for (int k = 0; k < draws_; ++k) {
      prefetch(output_rows_, drawn[WordVectorsText::kAhead * draws_ + k]);
      push(drawn[k], 0, drawn[k] == word ? 0 : rate_);
    }
    if (draws_ > 0) push(word, 1, rate_);
    if (p_.path != nullptr)
      for (int64_t i = p_.path_offsets[word]; i < p_.path_offsets[word + 1]; ++i) push(p_.path[i], p_.path_labels[i], rate_);
    outputs_.size = size;
    examples_.push({input_rows_.size(), size, nullptr});
  }

  static void prefetch(const WordVectorsRows& rows, int32_t row) {
    if (row >= 0) rows.prefetch(row);
  }

  // Trains on the examples added. single: each h is one row.
  template <bool single>
  void finish() {
    if (examples_.size() == 0) return;
    examples += examples_.size();
    find_dots<single>();
    find_errors();
    change<single>();
    clear();
    inputs_.publish_due();
    output_rows_.publish_due();
  }

  void clear() {
    examples_.clear();
    input_rows_.clear();
    outputs_.size = 0;
  }

  // errors: the dots of each example's h and output rows.
  template <bool single>
  void find_dots() {
    int64_t input = 0, output = 0;
    for (int64_t e = 0; e < examples_.size(); ++e) {
      Example& example = examples_[e];
      example.hidden = single ? input_rows_[e] : hidden_of(e, input, example.inputs);
      for (; output < example.outputs; output += kRowGroup)
        with_count(group(output, example), [&](auto r) {
          store(outputs_.errors.get() + output, row_dots<r>(example.hidden, outputs_.rows.get() + output, p_.stride));
        });
      input = example.inputs;
      output = example.outputs;
    }
  }

  // errors: from dots to rate g.
  void find_errors() {
    for (int64_t i = 0; i < outputs_.size; i += kLanes<float>) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes<float>, outputs_.size - i));
      const Float rate = load_partial(outputs_.rates.get() + i, count);
      Float loss;
      store(outputs_.errors.get() + i,
            logistic_step(load(outputs_.errors.get() + i), load(outputs_.labels.get() + i), rate, loss));
      losses_ += rate != 0.0f ? loss : Float{};
    }
  }

  template <bool single>
  void change() {
    int64_t input = 0, output = 0;
    float* const change = changes_.get();
    for (int64_t e = 0; e < examples_.size(); ++e) {
      const Example& example = examples_[e];
      // An h that is a row, and has one group of output rows, changes with them.
      const bool at_once = (single || example.inputs - input == 1) && example.outputs - output <= kRowGroup;
      const float* from = at_once ? example.hidden : nullptr;
      float* const to = at_once ? example.hidden : change;
      for (; output < example.outputs; output += kRowGroup, from = change)
        with_count(group(output, example), [&](auto r) {
          change_rows<r>(example.hidden, outputs_.rows.get() + output, outputs_.errors.get() + output, p_.stride, from, to);
        });
      if (!at_once) {
        const int64_t rows = single ? 1 : example.inputs - input;
        change_inputs(&input_rows_[input], rows, change, input_scale(rows), p_.stride);
      }
      input = example.inputs;
      output = example.outputs;
    }
  }

  static int group(int64_t output, const Example& example) {
    return static_cast<int>(std::min<int64_t>(kRowGroup, example.outputs - output));
  }

  // h of input rows [begin, end): the row itself where it is one, else their mean or sum.
  float* hidden_of(int64_t e, int64_t begin, int64_t end) {
    if (end - begin == 1) return input_rows_[begin];
    float* const hidden = means_.get() + e * p_.stride;
    sum_inputs(&input_rows_[begin], end - begin, p_.mean ? 1.0f / static_cast<float>(end - begin) : 1.0f, p_.stride, hidden);
    return hidden;
  }

  // What an h's change is multiplied by, for each of the rows it is of.
  float input_scale(int64_t rows) const { return p_.mean && p_.exact ? 1.0f / static_cast<float>(rows) : 1.0f; }

  const WordVectorsParams& p_;
  const int draws_;
  WordVectorsText text_;
  Array<Example> examples_;
  Array<float*> input_rows_;
  Outputs outputs_;
  Buffer<float> means_;    // [most examples, stride]
  Buffer<float> changes_;  // [stride]: sum_r rate g_r o_r; of all examples in deterministic training
  WordVectorsRows inputs_, output_rows_;
  float rate_ = 0;
  Float losses_{};
};

inline void add_totals(const WordVectorsTrainer& trainer, double* totals) {
  totals[0] += trainer.loss;
  totals[1] += static_cast<double>(trainer.examples);
  totals[2] += static_cast<double>(trainer.words);
}

// Without locks: in the order in which threads come by.
inline void train_freely(const WordVectorsParams& p) {
  constexpr int64_t chunk = WordVectorsText::kChunk;
  const int threads = static_cast<int>(std::min<int64_t>(p.threads, (p.end - p.begin + chunk - 1) / chunk));
  Buffer<double> totals(3 * std::max(threads, 1));
  std::fill_n(totals.get(), 3 * std::max(threads, 1), 0.0);
  std::atomic<int64_t> next{p.begin};
  parallel(threads, [&](const Worker& worker) {
    WordVectorsTrainer trainer(p, worker.team);
    for (int64_t begin; (begin = next.fetch_add(chunk, std::memory_order_relaxed)) < p.end;)
      trainer.train(begin, std::min(begin + chunk, p.end));
    trainer.publish();
    add_totals(trainer, totals.get() + 3 * worker.thread);
  });
  for (int i = 0; i < 3 * threads; ++i) p.totals[i % 3] += totals.get()[i];
}

inline void train_deterministically(const WordVectorsParams& p) {
  constexpr int kPieces = 8, kPiecePlaces = 8;
  using Piece = WordVectorsTrainer;
  Piece pieces[kPieces] = {Piece(p, kPiecePlaces, 1), Piece(p, kPiecePlaces, 1), Piece(p, kPiecePlaces, 1),
                           Piece(p, kPiecePlaces, 1), Piece(p, kPiecePlaces, 1), Piece(p, kPiecePlaces, 1),
                           Piece(p, kPiecePlaces, 1), Piece(p, kPiecePlaces, 1)};
  parallel(std::min(p.threads, kPieces), [&](const Worker& worker) {
    for (int64_t round = p.begin; round < p.end; round += kPieces * kPiecePlaces) {
      for (int i = worker.thread; i < kPieces; i += worker.team) {
        const int64_t begin = std::min(round + i * kPiecePlaces, p.end);
        pieces[i].find(begin, std::min(begin + kPiecePlaces, p.end));
      }
      worker.wait();
      for (Piece& piece : pieces) piece.change_own_outputs(worker);
      worker.wait();
      for (Piece& piece : pieces) piece.change_own_inputs(worker);
      worker.wait();
    }
  });
  for (const Piece& piece : pieces) add_totals(piece, p.totals);
}

void train_word_vectors(const WordVectorsParams& p) { (p.deterministic ? train_deterministically : train_freely)(p); }

}  // namespace seqkern::cpu::SEQKERN_ISA
