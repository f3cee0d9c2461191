// The recurrent layer on the CPU, forward and backward, for any cell of math/.
//
// One parallel region per call. The input projection of all steps is a product before the recurrence; the gradients of the
// weights and of the input are products over all steps after it. Inside the recurrence the work of a step is shared in one of
// two ways, chosen by size (see Share):
//   - by batch: each thread carries its own sequences through all steps; threads never wait for each other;
//   - by hidden units: each thread owns a part of the units and of W_hh, and all meet at a barrier once a step.
//
// Gates are kept in blocks: kBlock hidden units at a time, the G gates of a block next to each other (units of the last block
// are fewer, and packed as densely). So one tile of the product holds all gates of its units, and the cell is applied to it
// while it is still in the first-level cache. Weights are permuted accordingly when they are packed; the order is private to
// these kernels, and GateBlocks is the only place that knows it.
#pragma once

#include "cpu/gemm.h"
#include "math/lstm_cell.h"
#include "params/recurrent.h"

namespace seqkern::cpu::SEQKERN_ISA {

constexpr int panel_vectors_of(int vectors) {
  int n = kPanelVectors;
  while (vectors % n != 0) --n;
  return n;
}

// The order of gate columns for a cell of G gates and H hidden units.
template <class T, int G>
struct GateBlocks {
  static constexpr int64_t kBlock = kLanes<T> * (kPanelVectors > G ? kPanelVectors / G : 1);
  static constexpr int64_t kColumns = G * kBlock;
  static constexpr int64_t kPanel = kLanes<T> * panel_vectors_of(static_cast<int>(kColumns / kLanes<T>));

  int64_t hidden;
  // [G * H]: the row of torch's weight matrices [G * H, ...] that each gate column stands for.
  Buffer<int64_t> weight_rows;

  explicit GateBlocks(int64_t hidden) : hidden(hidden), weight_rows(G * hidden) {
    int64_t* row = weight_rows.get();
    for (int64_t block = 0; block < count(); ++block)
      for (int64_t gate = 0; gate < G; ++gate)
        for (int64_t unit = 0; unit < units(block); ++unit) *row++ = gate * hidden + block * kBlock + unit;
  }

  int64_t count() const { return (hidden + kBlock - 1) / kBlock; }
  int64_t units(int64_t block) const { return std::min(kBlock, hidden - block * kBlock); }
};

// What one thread does of each step of the recurrence.
struct Share {
  bool by_batch;
  Range rows;    // its sequences
  Range blocks;  // its blocks of hidden units

  // By batch where each thread has about a tile of sequences and W_hh, which each of them then reads whole, stays in its
  // second-level cache.
  Share(const Worker& worker, int64_t batch, int64_t blocks_in_all, int64_t weight_bytes)
      : by_batch(worker.team == 1 || (batch >= 4 * worker.team && weight_bytes <= kWeightBytes)),
        rows(by_batch ? worker.part_of(batch) : Range{0, batch}),
        blocks(by_batch ? Range{0, blocks_in_all} : worker.part_of(blocks_in_all)) {}

  static constexpr int64_t kWeightBytes = 1 << 19;
};

// Time order of the steps: step s of the recurrence is row at(s) of the arrays.
struct TimeOrder {
  int64_t steps;
  bool reverse;
  int64_t at(int64_t s) const { return reverse ? steps - 1 - s : s; }
};

template <class T>
void copy_or_zero(T* to, const T* from, int64_t count) {
  if (from)
    std::copy(from, from + count, to);
  else
    std::fill(to, to + count, T(0));
}

// gates_t[rows, columns of block] += h_prev[rows, :] W_hh^T[:, columns of block].
template <class Blocks, class T>
void step_product(Range rows, int64_t block, const Blocks& blocks, const T* h_prev, const Packed<T>& weight, T* gates_t) {
  const int64_t H = blocks.hidden, GH = weight.columns;
  const int64_t pass = depth_of_pass<T>(H, Blocks::kColumns);
  const int64_t begin = block * (Blocks::kColumns / Blocks::kPanel);
  const int64_t end = std::min(begin + Blocks::kColumns / Blocks::kPanel, weight.panels());
  for (int64_t k = 0; k < H; k += pass)
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t width = weight.width(panel);
      for_each_tile(rows, [&](int64_t n, int64_t size) {
        T* c[kTileRows];
        for (int64_t r = 0; r < size; ++r) c[r] = gates_t + (n + r) * GH + panel * Blocks::kPanel;
        any_tile<T>(size, width, std::min(pass, H - k), h_prev + n * H + k, H, weight.at(panel) + k * round_to_lanes<T>(width), c,
                    nullptr, true);
      });
    }
}

template <class Cell, class Blocks, class T>
void step_cell_forward(Range rows, int64_t block, const Blocks& blocks, T* gates_t, const T* c_prev, T* c, T* h) {
  constexpr int lanes = kLanes<T>;
  const int64_t H = blocks.hidden, units = blocks.units(block);
  for (int64_t n = rows.begin; n < rows.end; ++n) {
    T* gates = gates_t + n * Cell::kGates * H + block * Blocks::kColumns;
    const int64_t row = n * H + block * Blocks::kBlock;
    for (int64_t u = 0; u < units; u += lanes) {
      const int valid = static_cast<int>(std::min<int64_t>(lanes, units - u));
      Vec<T> g[Cell::kGates], c_new;
      for (int i = 0; i < Cell::kGates; ++i) g[i] = load_partial(gates + i * units + u, valid);
      const Vec<T> h_new = Cell::forward(g, load_partial(c_prev + row + u, valid), c_new);
      for (int i = 0; i < Cell::kGates; ++i) store_partial(gates + i * units + u, g[i], valid);
      store_partial(c + row + u, c_new, valid);
      store_partial(h + row + u, h_new, valid);
    }
  }
}

template <class Cell, class T>
void recurrent_forward(const RecurrentForwardParams<T>& p) {
  using Blocks = GateBlocks<T, Cell::kGates>;
  const int64_t T_ = p.steps, N = p.batch, D = p.input_size, H = p.hidden_size, GH = Cell::kGates * H;
  const Blocks blocks(H);
  const int64_t* weight_row = blocks.weight_rows.get();
  const TimeOrder time{T_, p.reverse};

  // Steps whose gates are projected together: enough rows for an efficient product, few enough to stay in cache.
  const int64_t step_bytes = std::max<int64_t>(1, N * GH * static_cast<int64_t>(sizeof(T)));
  const int64_t chunk =
      std::clamp<int64_t>(std::max((int64_t{1} << 20) / step_bytes, 96 / std::max<int64_t>(1, N)), 1, std::max<int64_t>(1, T_));
  const Buffer<T> workspace(p.gates ? 0 : chunk * N * GH);
  const Packed<T> weight_ih(D, GH);
  const Packed<T> weight_hh(H, GH, Blocks::kPanel);
  const Buffer<T> bias(round_to_lanes<T>(GH));

  parallel(p.threads, [&](const Worker& worker) {
    const Share share(worker, N, blocks.count(), GH * H * static_cast<int64_t>(sizeof(T)));
    pack_columns(weight_ih, worker.part_of(weight_ih.panels()), [&](int64_t j) { return p.weight_ih + weight_row[j] * D; });
    pack_columns(weight_hh, worker.part_of(weight_hh.panels()), [&](int64_t j) { return p.weight_hh + weight_row[j] * H; });
    const Range bias_part = worker.part_of(round_to_lanes<T>(GH));
    for (int64_t j = bias_part.begin; j < bias_part.end; ++j) {
      const int64_t row = weight_row[std::min(j, GH - 1)];
      bias.get()[j] = (p.bias_ih ? p.bias_ih[row] : T(0)) + (p.bias_hh ? p.bias_hh[row] : T(0));
    }
    worker.wait();

    for (int64_t first = 0; first < T_; first += chunk) {
      const int64_t count = std::min(chunk, T_ - first);
      const int64_t first_row = time.reverse ? T_ - first - count : first;  // first row in memory of the chunk
      T* gates = p.gates ? p.gates + first_row * N * GH : workspace.get();
      gemm(worker.part_of(count * N), Left<T>{p.input + first_row * N * D, D}, {{weight_ih, gates, GH, nullptr, bias.get()}});
      worker.wait();
      for (int64_t s = first; s < first + count; ++s) {
        const int64_t t = time.at(s);
        const T* h_prev = s == 0 ? p.h_0 : p.output + time.at(s - 1) * N * H;
        const T* c_prev = s == 0 ? p.c_0 : p.cells ? p.cells + time.at(s - 1) * N * H : p.c_n;
        T* c = p.cells ? p.cells + t * N * H : p.c_n;
        T* gates_t = gates + (t - first_row) * N * GH;
        for (int64_t block = share.blocks.begin; block < share.blocks.end; ++block) {
          step_product<Blocks>(share.rows, block, blocks, h_prev, weight_hh, gates_t);
          step_cell_forward<Cell>(share.rows, block, blocks, gates_t, c_prev, c, p.output + t * N * H);
        }
        if (!share.by_batch) worker.wait();
      }
      if (!p.gates && share.by_batch && first + count < T_) worker.wait();  // the workspace is about to be overwritten
    }
  });
  const T* last_h = T_ ? p.output + time.at(T_ - 1) * N * H : p.h_0;
  std::copy(last_h, last_h + N * H, p.h_n);
  const T* last_c = T_ == 0 ? p.c_0 : p.cells ? p.cells + time.at(T_ - 1) * N * H : p.c_n;
  if (last_c != p.c_n) std::copy(last_c, last_c + N * H, p.c_n);
}

// d_h, d_c: gradient of the state after this step in; d_c: gradient of the state before it out.
template <class Cell, class Blocks, class T>
void step_cell_backward(Range rows, int64_t block, const Blocks& blocks, const T* gates_t, const T* c_prev, const T* c,
                        const T* d_output, const T* d_h, T* d_c, T* d_gates_t, T* bias_sums) {
  constexpr int lanes = kLanes<T>;
  constexpr int G = Cell::kGates;
  const int64_t H = blocks.hidden, units = blocks.units(block), column = block * Blocks::kColumns;
  for (int64_t u = 0; u < units; u += lanes) {
    const int valid = static_cast<int>(std::min<int64_t>(lanes, units - u));
    Vec<T> sums[G];
    for (int i = 0; i < G; ++i) sums[i] = load_partial(bias_sums + column + i * units + u, valid);
    for (int64_t n = rows.begin; n < rows.end; ++n) {
      const int64_t row = n * H + block * Blocks::kBlock + u, gate = n * G * H + column + u;
      Vec<T> g[G], dh = load_partial(d_h + row, valid), dc = load_partial(d_c + row, valid);
      for (int i = 0; i < G; ++i) g[i] = load_partial(gates_t + gate + i * units, valid);
      if (d_output) dh += load_partial(d_output + row, valid);
      Cell::backward(g, load_partial(c_prev + row, valid), load_partial(c + row, valid), dh, dc);
      for (int i = 0; i < G; ++i) {
        store_partial(d_gates_t + gate + i * units, g[i], valid);
        sums[i] += g[i];
      }
      store_partial(d_c + row, dc, valid);
    }
    for (int i = 0; i < G; ++i) store_partial(bias_sums + column + i * units + u, sums[i], valid);
  }
}

template <class Cell, class T>
void recurrent_backward(const RecurrentBackwardParams<T>& p) {
  using Blocks = GateBlocks<T, Cell::kGates>;
  const int64_t T_ = p.steps, N = p.batch, D = p.input_size, H = p.hidden_size, GH = Cell::kGates * H;
  const Blocks blocks(H);
  const int64_t* weight_row = blocks.weight_rows.get();
  const TimeOrder time{T_, p.reverse};

  const Buffer<T> d_gates(T_ * N * GH);
  const Buffer<T> d_bias(p.threads * GH);  // one row of sums a thread
  const Packed<T> weight_ih(GH, D);        // B of d_input = d_gates W_ih
  const Packed<T> input(T_ * N, D);        // B of d_weight_ih = d_gates^T input
  const Packed<T> h_prev(T_ * N, H);       // B of d_weight_hh = d_gates^T h_prev

  parallel(p.threads, [&](const Worker& worker) {
    const Share share(worker, N, blocks.count(), GH * H * static_cast<int64_t>(sizeof(T)));
    pack_rows(weight_ih, worker.part_of(weight_ih.depth), [&](int64_t j) { return p.weight_ih + weight_row[j] * D; });
    pack_rows(input, worker.part_of(input.depth), [&](int64_t m) { return p.input + m * D; });
    // The row before row m in the order of the recurrence.
    pack_rows(h_prev, worker.part_of(h_prev.depth), [&](int64_t m) {
      const int64_t before = p.reverse ? m + N : m - N;
      return before < 0 ? p.h_0 + m * H : before >= T_ * N ? p.h_0 + (before - T_ * N) * H : p.output + before * H;
    });
    // The columns of W_hh for this thread's units, in panels of its own: B of d_h = d_gates W_hh.
    const Range units{std::min(share.blocks.begin * Blocks::kBlock, H), std::min(share.blocks.end * Blocks::kBlock, H)};
    const int64_t count = units.end - units.begin;
    const Packed<T> weight_hh(GH, count);
    pack_rows(weight_hh, {0, GH}, [&](int64_t j) { return p.weight_hh + weight_row[j] * H + units.begin; });
    for (int64_t n = share.rows.begin; n < share.rows.end; ++n) {
      const int64_t offset = n * H + units.begin;
      copy_or_zero(p.d_h_0 + offset, p.d_h_n ? p.d_h_n + offset : nullptr, count);
      copy_or_zero(p.d_c_0 + offset, p.d_c_n ? p.d_c_n + offset : nullptr, count);
    }
    T* bias_sums = d_bias.get() + worker.thread * GH;
    std::fill(bias_sums, bias_sums + GH, T(0));
    worker.wait();

    // d_h_0 and d_c_0 carry the gradient of the state from step to step.
    for (int64_t s = T_ - 1; s >= 0; --s) {
      const int64_t t = time.at(s);
      const T* c_prev = s == 0 ? p.c_0 : p.cells + time.at(s - 1) * N * H;
      T* d_gates_t = d_gates.get() + t * N * GH;
      for (int64_t block = share.blocks.begin; block < share.blocks.end; ++block)
        step_cell_backward<Cell>(share.rows, block, blocks, p.gates + t * N * GH, c_prev, p.cells + t * N * H,
                                 p.d_output ? p.d_output + t * N * H : nullptr, p.d_h_0, p.d_c_0, d_gates_t, bias_sums);
      if (!share.by_batch) worker.wait();
      gemm(share.rows, Left<T>{d_gates_t, GH}, {{weight_hh, p.d_h_0 + units.begin, H}});
    }
    worker.wait();

    gemm(worker.part_of(T_ * N), Left<T>{d_gates.get(), GH}, {{weight_ih, p.d_input, D}});
    gemm(worker.part_of(GH), Left<T>{d_gates.get(), GH, true},
         {{input, p.d_weight_ih, D, weight_row}, {h_prev, p.d_weight_hh, H, weight_row}});
    const Range part = worker.part_of(GH);
    for (int64_t j = part.begin; j < part.end; ++j) {
      T sum = 0;
      for (int i = 0; i < worker.team; ++i) sum += d_bias.get()[i * GH + j];
      p.d_bias[weight_row[j]] = sum;
    }
  });
}

}  // namespace seqkern::cpu::SEQKERN_ISA
