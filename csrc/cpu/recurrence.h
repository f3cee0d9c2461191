// What the recurrent kernels know of time, memory and threads: the order of gate columns, which state a step begins with, what is
// kept for backward, and what each thread does of a step.
#pragma once

#include "cpu/gemm.h"
#include "math/cells.h"
#include "params/recurrent.h"

namespace seqkern::cpu::SEQKERN_ISA {

using math::Candidate;
using math::Sum;

template <class T>
void convert(const T* from, int64_t count, Sum<T>* to) {
  for (int64_t i = 0; i < count; i += kLanes<Sum<T>>) {
    const int valid = static_cast<int>(std::min<int64_t>(kLanes<Sum<T>>, count - i));
    store_partial(to + i, load_sum(from + i, valid), valid);
  }
}

template <class T>
void convert_back(const Sum<T>* from, int64_t count, T* to) {
  for (int64_t i = 0; i < count; i += kLanes<Sum<T>>) {
    const int valid = static_cast<int>(std::min<int64_t>(kLanes<Sum<T>>, count - i));
    store_sum(to + i, load_partial(from + i, valid), valid);
  }
}

constexpr int panel_vectors_of(int vectors) {
  int n = kPanelVectors;
  while (vectors % n != 0) --n;
  return n;
}

// Blocks of this many vectors of hidden units give products whole panels.
template <class Cell>
constexpr int block_vectors() {
  if (Cell::kCandidate == Candidate::gated) return 2;
  if (Cell::kGates <= kPanelVectors) return kPanelVectors / Cell::kGates;
  int n = 1;
  while (n * Cell::kGates % kPanelVectors != 0) ++n;
  return n;
}

// The order of slots in a row [kSlots * H]: kBlock hidden units at a time, the slots of a block next to each other (units of the
// last block are fewer, and packed as densely). So one tile of the product with W_hh holds all gates of its units, and the cell
// is applied to it while it is in the first-level cache. Weights are permuted accordingly when they are packed; the order is
// private to these kernels, and this class is the only place that knows it.
//
// The hidden parts of a block's gates lie side by side, and are one product, but for a gated candidate, whose product comes
// later: those are the phases. Weights of a phase are packed as columns in the order of the slots.
template <class Cell, class S>
struct GateBlocks {
  static constexpr int kGates = Cell::kGates, kSlots = Cell::kSlots;
  static constexpr int kPhases = Cell::kCandidate == Candidate::gated ? 2 : 1;
  static constexpr int64_t kBlock = kLanes<S> * block_vectors<Cell>();

  static constexpr int phase_gates(int phase) { return kPhases == 1 ? kGates : phase == 0 ? kGates - 1 : 1; }
  static constexpr int phase_slot(int phase) { return kPhases == 1 ? kSlots - kGates : phase == 0 ? 0 : kGates - 1; }
  static constexpr int64_t columns(int gates) { return gates * kBlock; }
  static constexpr int64_t panel(int gates) { return kLanes<S> * panel_vectors_of(static_cast<int>(columns(gates) / kLanes<S>)); }

  int64_t hidden;

  int64_t count() const { return (hidden + kBlock - 1) / kBlock; }
  int64_t units(int64_t block) const { return std::min(kBlock, hidden - block * kBlock); }
  // Where slot `slot` of a block begins in a row of slots.
  int64_t at(int64_t block, int slot) const { return block * kSlots * kBlock + slot * units(block); }

  // The row of W_ih [G * H, D] (or W_hh) for each column of the input projection (or of a phase's product).
  template <class GateOf>
  void weight_rows(int gates, const GateOf& gate_of, int64_t* rows) const {
    for (int64_t block = 0; block < count(); ++block)
      for (int i = 0; i < gates; ++i)
        for (int64_t unit = 0; unit < units(block); ++unit) *rows++ = gate_of(i) * hidden + block * kBlock + unit;
  }
  void input_rows(int64_t* rows) const { weight_rows(kGates, math::gate_of_input_slot<Cell>, rows); }
  void hidden_rows(int phase, int64_t* rows) const {
    weight_rows(phase_gates(phase), [phase](int i) { return i + (phase == 0 ? 0 : kGates - 1); }, rows);
  }
};

// What one thread does of each step of the recurrence.
struct Share {
  bool by_batch;
  Range rows;    // its sequences
  Range blocks;  // its blocks of hidden units

  // By batch where each thread has about a tile of sequences and W_hh, which each of them then reads whole, stays in its
  // second-level cache. Layer norms need a sequence's units in one place.
  Share(const Worker& worker, int64_t batch, int64_t blocks_in_all, int64_t weight_bytes, bool norms)
      : by_batch(norms || worker.team == 1 || (batch >= 4 * worker.team && weight_bytes <= kWeightBytes)),
        rows(by_batch ? worker.part_of(batch) : Range{0, batch}),
        blocks(by_batch ? Range{0, blocks_in_all} : worker.part_of(blocks_in_all)) {}

  void wait(const Worker& worker) const {
    if (!by_batch) worker.wait();
  }

  static constexpr int64_t kWeightBytes = 1 << 19;
};

// Which row of the arrays a step is, and which state it begins with.
template <class T>
class Recurrence {
 public:
  using S = Sum<T>;
  enum class Entry { initial, zero, previous };

  // output, cells: the states after each step; with running_c, c_n holds them in place of cells.
  Recurrence(const RecurrentParams<T>& p, const T* output, const S* cells, const S* running_c)
      : p_(p),
        output_(output),
        cells_(cells),
        running_c_(running_c),
        zero_h_(p.state_size),
        zero_c_(p.hidden_size),
        c_0_(p.c_0 ? p.batch * p.hidden_size : 0) {
    std::fill(zero_h_.get(), zero_h_.get() + p.state_size, T{});
    std::fill(zero_c_.get(), zero_c_.get() + p.hidden_size, S{});
    if (p.c_0)
      for (int64_t n = 0; n < p.batch; ++n) convert(p.c_0 + n * c_stride(), p.hidden_size, c_0_.get() + n * p.hidden_size);
  }

  int64_t h_stride() const { return p_.heads * p_.state_size; }
  int64_t c_stride() const { return p_.heads * p_.hidden_size; }
  int64_t row(int64_t step) const { return p_.reverse ? p_.steps - 1 - step : step; }
  int64_t length(int64_t n) const { return p_.lengths ? p_.lengths[n] : p_.steps; }
  bool taken(int64_t step, int64_t n) const { return !p_.lengths || row(step) < p_.lengths[n]; }
  bool is_last(int64_t step, int64_t n) const { return row(step) == (p_.reverse ? 0 : length(n) - 1); }
  // Whether a step may enter some sequences with another state than the one after the step before, and others not. Lengths alone
  // do not make it so: zeros stand wherever no step is taken.
  bool uneven() const { return p_.resets || (p_.lengths && p_.reverse && (p_.h_0 || p_.c_0)); }

  // A step that is not taken enters with zeros.
  Entry entry(int64_t step, int64_t n) const {
    if (!taken(step, n)) return Entry::zero;
    if (p_.resets && p_.resets[row(step) * p_.batch + n]) return p_.reset_to_initial ? Entry::initial : Entry::zero;
    return row(step) == (p_.reverse ? length(n) - 1 : 0) ? Entry::initial : Entry::previous;
  }
  const T* h(int64_t step, int64_t n) const {
    const Entry from = entry(step, n);
    if (from == Entry::previous) return output_ + (row(step - 1) * p_.batch + n) * h_stride();
    return from == Entry::initial && p_.h_0 ? p_.h_0 + n * h_stride() : zero_h_.get();
  }
  const S* c(int64_t step, int64_t n) const {
    const Entry from = entry(step, n);
    if (from == Entry::previous)
      return cells_ ? cells_ + (row(step - 1) * p_.batch + n) * c_stride() : running_c_ + n * c_stride();
    return from == Entry::initial && p_.c_0 ? c_0_.get() + n * p_.hidden_size : zero_c_.get();
  }
  // The rows of the entering states of all sequences at a step, where it is not uneven.
  struct Rows {
    const T* h;
    int64_t h_stride;
    const S* c;
    int64_t c_stride;
  };
  Rows entering(int64_t step) const {
    if (uneven() || p_.batch == 0) return {};
    if (step == 0)
      return {p_.h_0 ? p_.h_0 : zero_h_.get(), p_.h_0 ? h_stride() : 0, p_.c_0 ? c_0_.get() : zero_c_.get(),
              p_.c_0 ? p_.hidden_size : 0};
    const int64_t row_before = row(step - 1) * p_.batch;
    return {output_ + row_before * h_stride(), h_stride(), cells_ ? cells_ + row_before * c_stride() : running_c_, c_stride()};
  }
  // The final states of sequence n.
  const T* last_h(int64_t n) const {
    if (length(n) == 0) return p_.h_0 ? p_.h_0 + n * h_stride() : zero_h_.get();
    return output_ + ((p_.reverse ? 0 : length(n) - 1) * p_.batch + n) * h_stride();
  }
  const S* last_c(int64_t n) const {
    if (length(n) == 0) return p_.c_0 ? c_0_.get() + n * p_.hidden_size : zero_c_.get();
    return cells_ ? cells_ + ((p_.reverse ? 0 : length(n) - 1) * p_.batch + n) * c_stride() : running_c_ + n * c_stride();
  }

 private:
  const RecurrentParams<T>& p_;
  const T* output_;
  const S* cells_;
  const S* running_c_;
  Buffer<T> zero_h_;
  Buffer<S> zero_c_;
  Buffer<S> c_0_;  // [N, H]
};

// What forward keeps for backward, of `rows` = steps * N rows; in one piece of memory.
template <class Cell, class T>
struct Kept {
  using S = Sum<T>;
  S* slots = nullptr;        // [rows, kSlots * H], in the order of GateBlocks
  S* cell_h = nullptr;       // [rows, H]: h before its projection by weight_hr
  S* normed_h = nullptr;     // [rows, G * H]: (W_hh h - mean) / deviation, in the order of the packed columns
  S* deviation_h = nullptr;  // [rows]: 1 / deviation
  S* normed_c = nullptr;     // [rows, H]
  S* deviation_c = nullptr;  // [rows]
  bool for_backward = true;  // else slots are working memory, which nobody reads after the step

  Kept() = default;

  static int64_t size(const RecurrentParams<T>& p) {
    const int64_t H = p.hidden_size;
    return Cell::kSlots * H + (p.weight_hr ? H : 0) + (p.norm_hh ? Cell::kGates * H + 1 : 0) + (p.norm_c ? H + 1 : 0);
  }

  Kept(const RecurrentParams<T>& p, S* memory, int64_t rows) {
    const int64_t H = p.hidden_size;
    const auto take = [&](int64_t size) {
      S* const begin = memory;
      memory += rows * size;
      return begin;
    };
    slots = take(Cell::kSlots * H);
    if (p.weight_hr) cell_h = take(H);
    if (p.norm_hh) {
      normed_h = take(Cell::kGates * H);
      deviation_h = take(1);
    }
    if (p.norm_c) {
      normed_c = take(H);
      deviation_c = take(1);
    }
  }

  // The same from row `row` on.
  Kept from(int64_t row, int64_t H) const {
    const auto move = [row](S* pointer, int64_t size) { return pointer ? pointer + row * size : nullptr; };
    Kept moved;
    moved.slots = move(slots, Cell::kSlots * H);
    moved.cell_h = move(cell_h, H);
    moved.normed_h = move(normed_h, Cell::kGates * H);
    moved.deviation_h = move(deviation_h, 1);
    moved.normed_c = move(normed_c, H);
    moved.deviation_c = move(deviation_c, 1);
    return moved;
  }
};

// The params of head k: pointers moved to it. Strides of the arrays stay those of all heads.
template <class T>
void move_to_head(RecurrentParams<T>& p, int64_t k, int64_t gates) {
  const auto move = [k](auto*& pointer, int64_t size) {
    if (pointer) pointer += k * size;
  };
  const int64_t H = p.hidden_size, R = p.state_size, GH = gates * H;
  if (!p.weight_ih) move(p.input, GH);
  move(p.h_0, R);
  move(p.c_0, H);
  move(p.weight_hh, GH * R);
  move(p.bias_ih, GH);
  move(p.bias_hh, GH);
  move(p.weight_cell, H);
  move(p.norm_hh, GH);
  move(p.norm_c, H);
  move(p.norm_c_bias, H);
  move(p.recurrent_mask, R);
  move(p.zoneout_h, H);
  move(p.zoneout_c, H);
}

// Runs `Pass(params of the head).run(worker)` for every head: heads at once where there are enough of them for the threads.
template <class Pass, class Params, class HeadOf>
void for_each_head(const Params& p, const HeadOf& head_of) {
  if (p.heads > 1 && p.heads >= p.threads) {
    parallel(p.threads, [&](const Worker& worker) {
      const Range heads = worker.part_of(p.heads);
      Barrier alone;
      for (int64_t k = heads.begin; k < heads.end; ++k) Pass(head_of(p, k), 1).run(Worker{0, 1, alone});
    });
    return;
  }
  for (int64_t k = 0; k < p.heads; ++k) {
    Pass pass(head_of(p, k), p.threads);
    parallel(p.threads, [&](const Worker& worker) { pass.run(worker); });
  }
}

}  // namespace seqkern::cpu::SEQKERN_ISA
