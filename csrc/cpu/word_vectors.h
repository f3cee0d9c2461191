// Training of word vectors (params/word_vectors.h has the equations).
//
// The examples of a word (skip-gram: one for each context word), or of kBags words (CBOW), are taken together: first all dots,
// then the errors of all of them, then rows change, example by example. So no dot has to wait for the change before it.
//
// Included by word_vectors_<isa>.cpp after the target pragma.
//
// With one thread, what comes out depends on nothing but the parameters. Several threads take chunks of the text as they come,
// and write the same rows without locks.
#pragma once

#include "cpu/parallel.h"
#include "cpu/word_vectors_step.h"
#include "cpu/word_vectors_text.h"

namespace seqkern::cpu::SEQKERN_ISA {

class WordVectorsTrainer {
 public:
  explicit WordVectorsTrainer(const WordVectorsParams& p)
      : p_(p),
        draws_(p.noise == nullptr ? 0 : p.negatives),
        text_(p),
        examples_(kBags + 2 * p.window),
        input_rows_(examples_.capacity() * (p.cbow ? 2 * p.window : 1) * std::max<int64_t>(1, p.most_subwords)),
        outputs_(examples_.capacity() * (draws_ + 1 + p.most_nodes) + kLanes<float>),
        means_(examples_.capacity() * p.stride),
        change_(p.stride) {}

  // Trains on the places [begin, end), WordVectorsText::kChunk or fewer.
  void train(int64_t begin, int64_t end) {
    text_.take(begin, end);
    losses_ = Float{};
    for (int64_t first, last; text_.next(first, last);) {
      const int32_t* drawn = text_.drawn();
      for (int64_t i = first; i < last; ++i) {
        const Entry& entry = text_[i];
        words += entry.word >= 0;
        if (entry.before + entry.after == 0) continue;
        add_examples(i, drawn);
        drawn += text_.draws_of(entry);
        if (!p_.cbow || examples_.size() == kBags) finish();
      }
      finish();
    }
    loss += reduce_sum<float>(losses_);
  }

  double loss = 0;
  int64_t examples = 0, words = 0;

 private:
  static constexpr int kBags = 4;

  // Up to where its input and output rows go, which begin where those of the example before end.
  struct Example {
    int64_t inputs, outputs;
    float* hidden;
  };

  // Output rows and what goes with each. A rate of 0 leaves a row out.
  struct Outputs {
    explicit Outputs(int64_t capacity) : rows(capacity), labels(capacity), rates(capacity), errors(capacity) {}
    void push(float* row, float label, float rate) {
      rows.push(row);
      labels.push(label);
      rates.push(rate);
    }
    Array<float*> rows;
    Array<float> labels, rates, errors;
  };

  void add_examples(int64_t i, const int32_t* drawn) {
    const Entry& entry = text_[i];
    rate_ = static_cast<float>(p_.rate + static_cast<double>(entry.place) * p_.rate_step);
    prefetch(p_.output, text_[i + 1].word);
    if (i + p_.window + 1 < text_.size()) prefetch(p_.input, text_[i + p_.window + 1].word);
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
      input_rows_.push(p_.input + word * p_.stride);
      return;
    }
    for (int64_t i = p_.subword_offsets[word]; i < p_.subword_offsets[word + 1]; ++i)
      input_rows_.push(p_.input + p_.subwords[i] * p_.stride);
  }

  // Adds the example whose h is of the rows added since the last one: against the word and its negatives, and the nodes on its
  // path.
  void add_example(int32_t word, const int32_t* drawn) {
    for (int k = 0; k < draws_; ++k) {
      prefetch(p_.output, drawn[WordVectorsText::kAhead * draws_ + k]);
      outputs_.push(p_.output + drawn[k] * p_.stride, 0, drawn[k] == word ? 0 : rate_);
    }
    if (draws_ > 0) outputs_.push(p_.output + word * p_.stride, 1, rate_);
    if (p_.path != nullptr)
      for (int64_t i = p_.path_offsets[word]; i < p_.path_offsets[word + 1]; ++i)
        outputs_.push(p_.output + p_.path[i] * p_.stride, p_.path_labels[i], rate_);
    examples_.push({input_rows_.size(), outputs_.rows.size(), nullptr});
  }

  void prefetch(const float* matrix, int32_t row) const {
    if (row < 0) return;
    for (int64_t i = 0; i < p_.stride; i += 16) __builtin_prefetch(matrix + row * p_.stride + i, 1, 3);
  }

  // Trains on the examples added.
  void finish() {
    if (examples_.size() == 0) return;
    examples += examples_.size();
    find_dots();
    find_errors();
    change();
    examples_.clear();
    input_rows_.clear();
    for (auto* values : {&outputs_.labels, &outputs_.rates}) values->clear();
    outputs_.rows.clear();
  }

  // errors: the dots of each example's h and output rows.
  void find_dots() {
    int64_t input = 0, output = 0;
    for (int64_t e = 0; e < examples_.size(); ++e) {
      Example& example = examples_[e];
      example.hidden = hidden_of(e, input, example.inputs);
      for (; output < example.outputs; output += kRowGroup)
        with_count(group(output, example), [&](auto r) {
          store(&outputs_.errors[output], row_dots<r>(example.hidden, &outputs_.rows[output], p_.stride));
        });
      input = example.inputs;
      output = example.outputs;
    }
  }

  // errors: from dots to rate g.
  void find_errors() {
    for (int64_t i = 0; i < outputs_.rows.size(); i += kLanes<float>) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes<float>, outputs_.rows.size() - i));
      const Float rate = load_partial(&outputs_.rates[i], count);
      Float loss;
      store(&outputs_.errors[i], logistic_step(load(&outputs_.errors[i]), load(&outputs_.labels[i]), rate, loss));
      losses_ += rate != 0.0f ? loss : Float{};
    }
  }

  void change() {
    int64_t input = 0, output = 0;
    float* const change = change_.get();
    for (int64_t e = 0; e < examples_.size(); ++e) {
      const Example& example = examples_[e];
      // An h that is a row, and has one group of output rows, changes with them.
      const bool at_once = example.inputs - input == 1 && example.outputs - output <= kRowGroup;
      const float* from = at_once ? example.hidden : nullptr;
      float* const to = at_once ? example.hidden : change;
      for (; output < example.outputs; output += kRowGroup, from = change)
        with_count(group(output, example), [&](auto r) {
          change_rows<r>(example.hidden, &outputs_.rows[output], &outputs_.errors[output], p_.stride, from, to);
        });
      if (!at_once) change_inputs(input, example.inputs);
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
    const float scale = p_.mean ? 1.0f / static_cast<float>(end - begin) : 1.0f;
    for (int64_t i = 0; i < p_.stride; i += kLanes<float>) {
      Float sum{};
      for (int64_t row = begin; row < end; ++row) sum += load(input_rows_[row] + i);
      store(hidden + i, sum * scale);
    }
    return hidden;
  }

  void change_inputs(int64_t begin, int64_t end) {
    const float scale = p_.mean && p_.exact ? 1.0f / static_cast<float>(end - begin) : 1.0f;
    const float* const change = change_.get();
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < p_.stride; i += kLanes<float>)
        store(input_rows_[row] + i, load(input_rows_[row] + i) + scale * load(change + i));
  }

  const WordVectorsParams& p_;
  const int draws_;
  WordVectorsText text_;
  Array<Example> examples_;
  Array<float*> input_rows_;
  Outputs outputs_;
  Buffer<float> means_;   // [most examples, stride]
  Buffer<float> change_;  // [stride]
  float rate_ = 0;
  Float losses_{};
};

void train_word_vectors(const WordVectorsParams& p) {
  constexpr int64_t chunk = WordVectorsText::kChunk;
  const int threads = static_cast<int>(std::min<int64_t>(p.threads, (p.end - p.begin + chunk - 1) / chunk));
  Buffer<double> totals(3 * std::max(threads, 1));
  std::fill_n(totals.get(), 3 * std::max(threads, 1), 0.0);
  std::atomic<int64_t> next{p.begin};
  parallel(threads, [&](const Worker& worker) {
    WordVectorsTrainer trainer(p);
    for (int64_t begin; (begin = next.fetch_add(chunk, std::memory_order_relaxed)) < p.end;)
      trainer.train(begin, std::min(begin + chunk, p.end));
    double* const mine = totals.get() + 3 * worker.thread;
    mine[0] = trainer.loss;
    mine[1] = static_cast<double>(trainer.examples);
    mine[2] = static_cast<double>(trainer.words);
  });
  for (int i = 0; i < 3 * threads; ++i) p.totals[i % 3] += totals.get()[i];
}

}  // namespace seqkern::cpu::SEQKERN_ISA
