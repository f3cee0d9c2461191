// The recurrent layer on the CPU, backward, for any cell of math/.
//
// The recurrence runs back from the last step: the cell's backward pass yields the gradients of the pre-activations, and a
// product with W_hh carries them to the step before. The gradients of weights and input are products over many steps at a time
// (over `recompute` of them, if gates were not kept and are computed again). Threads share a step as in the forward pass.
//
// Gradients of slots lie gate by gate, [kSlots, H] a row: input parts first, hidden parts last, so that each is one matrix.
#pragma once

#include "cpu/recurrent_steps.h"

namespace seqkern::cpu::SEQKERN_ISA {

template <class Cell, class T>
class RecurrentBackward {
 public:
  using S = Sum<T>;
  using Blocks = GateBlocks<Cell, S>;
  static constexpr int G = Cell::kGates, kSlots = Cell::kSlots, P = Cell::kParameters, kLanesOfSum = kLanes<S>;
  static constexpr bool kGated = Blocks::kPhases == 2;

  RecurrentBackward(const RecurrentBackwardParams<T>& params, int threads)
      : p_(params),
        N(p_.batch),
        D(p_.input_size),
        H(p_.hidden_size),
        R(p_.state_size),
        GH(G * H),
        chunk_(steps_at_once(p_)),
        few_(few_rows(p_.steps, N)),
        recurrence_(p_, p_.output, p_.cells, nullptr),
        steps_(p_, recurrence_, p_.recompute > 0),
        recomputed_(p_.recompute == 0 ? 0 : chunk_ * N * Kept<Cell, T>::size(p_)),
        d_slots_(chunk_ * N * kSlots * H),
        d_normed_h_(p_.norm_hh ? chunk_ * N * GH : 0),
        d_h_(N * R),
        d_c_(Cell::kHasCell ? N * H : 0),
        d_masked_(p_.recurrent_mask ? N * R : 0),
        d_gated_(kGated ? N * H : 0),
        d_projected_(p_.weight_hr ? chunk_ * N * R : 0),
        d_cell_h_(p_.weight_hr ? N * H : 0),
        sums_(threads * sums_size()),
        input_rows_(GH),
        weight_ih_(p_.weight_ih && p_.d_input && !few_ ? GH : 0, D),
        weight_hr_(p_.weight_hr ? R : 0, H),
        input_(p_.d_weight_ih ? chunk_ * N : 0, D),
        h_prev_(p_.d_weight_hh ? chunk_ * N : 0, R),
        gated_(p_.d_weight_hh && kGated ? chunk_ * N : 0, R),
        cell_h_(p_.d_weight_hr ? chunk_ * N : 0, H),
        zeros_(std::max({D, H, R})) {
    p_.threads = threads;
    for (int i = 0; i < G; ++i)
      for (int64_t u = 0; u < H; ++u) input_rows_.get()[i * H + u] = math::gate_of_input_slot<Cell>(i) * H + u;
    std::fill_n(zeros_.get(), std::max({D, H, R}), T{});
  }

  void run(const Worker& worker) const {
    const Share share(worker, N, steps_.blocks.count(), GH * R * static_cast<int64_t>(sizeof(T)), p_.norm_hh || p_.norm_c);
    if (p_.recompute > 0) steps_.pack(worker);
    if (weight_ih_.depth > 0)
      pack_rows(weight_ih_, worker.part_of(weight_ih_.depth), [&](int64_t j) { return p_.weight_ih + input_rows_.get()[j] * D; });
    if (p_.weight_hr) pack_rows(weight_hr_, worker.part_of(weight_hr_.depth), [&](int64_t j) { return p_.weight_hr + j * H; });

    // The columns of W_hh for this worker's part of the state, in panels of its own: B of d_h = d_gates W_hh. Its part of the
    // state is its units, where state and units are the same.
    const Range units{std::min(share.blocks.begin * Blocks::kBlock, H), std::min(share.blocks.end * Blocks::kBlock, H)};
    const Range state = !p_.weight_hr ? units : share.by_batch ? Range{0, R} : worker.part_of(R);
    constexpr int kFirstGates = Blocks::phase_gates(0);
    const int64_t panel = panel_vectors<T>(kPanelVectors, share.rows.end - share.rows.begin) * kLanesOfSum;
    const Packed<T> weight_hh(few_ ? 0 : kFirstGates * H, state.end - state.begin, panel);
    const Packed<T> weight_candidate(kGated && !few_ ? H : 0, state.end - state.begin, panel);
    pack_rows(weight_hh, {0, weight_hh.depth}, [&](int64_t j) { return p_.weight_hh + j * R + state.begin; });
    pack_rows(weight_candidate, {0, weight_candidate.depth},
              [&](int64_t j) { return p_.weight_hh + (kFirstGates * H + j) * R + state.begin; });

    for (int64_t n = share.rows.begin; n < share.rows.end; ++n) {
      std::fill(d_h_.get() + n * R + state.begin, d_h_.get() + n * R + state.end, S(0));
      if (Cell::kHasCell) std::fill(d_c_.get() + n * H + units.begin, d_c_.get() + n * H + units.end, S(0));
      if (p_.d_h_0) initial_gradient(n, state, p_.d_h_n, recurrence_.h_stride(), p_.d_h_0);
      if (p_.d_c_0) initial_gradient(n, units, p_.d_c_n, recurrence_.c_stride(), p_.d_c_0);
    }
    S* const sums = sums_.get() + worker.thread * sums_size();
    std::fill(sums, sums + sums_size(), S(0));
    worker.wait();

    for (int64_t end = p_.steps; end > 0; end -= chunk_) {
      const int64_t begin = std::max<int64_t>(0, end - chunk_);
      const Chunk chunk{begin, end, p_.reverse ? p_.steps - end : begin};
      const Kept<Cell, T> kept = p_.recompute > 0
                                     ? Kept<Cell, T>(p_, recomputed_.get(), chunk_ * N)
                                     : Kept<Cell, T>(p_, const_cast<S*>(p_.kept), p_.steps * N).from(chunk.first_row * N, H);
      if (p_.recompute > 0) compute_again(worker, share, chunk, kept);
      for (int64_t step = end - 1; step >= begin; --step)
        back_one_step(worker, share, step, chunk, kept, units, state, weight_hh, weight_candidate, sums);
      worker.wait();
      finish_chunk(worker, chunk, kept, end == p_.steps);
      worker.wait();
    }
    if (p_.steps == 0) zero_weight_gradients(worker);
    add_up_sums(worker);
  }

 private:
  // Steps [begin, end) of the recurrence; first_row: the first of their rows in memory.
  struct Chunk {
    int64_t begin, end, first_row;
    int64_t steps() const { return end - begin; }
  };

  // Steps whose gradients are products together: enough rows for efficient ones, few enough to stay in the third-level cache.
  static int64_t steps_at_once(const RecurrentBackwardParams<T>& p) {
    if (p.recompute > 0) return std::min(p.recompute, p.steps);
    constexpr int64_t kBytes = int64_t{1} << 24, kRows = 512;
    const int64_t row_bytes = std::max<int64_t>(1, kSlots * p.hidden_size * static_cast<int64_t>(sizeof(T)));
    const int64_t rows = std::max(kBytes / row_bytes, kRows), most = std::max<int64_t>(1, rows / std::max<int64_t>(1, p.batch));
    const int64_t chunks = (p.steps + most - 1) / most;
    return chunks == 0 ? 0 : (p.steps + chunks - 1) / chunks;
  }

  // Slots for the biases and the cell's parameters, the norms' scales and shifts.
  int64_t sums_size() const { return (kSlots + P) * H + (p_.norm_hh ? GH : 0) + (p_.norm_c ? 2 * H : 0); }

  // A sequence that takes no step hands its final state's gradient to the initial one.
  void initial_gradient(int64_t n, Range part, const T* d_last, int64_t stride, S* d_initial) const {
    for (int64_t u = part.begin; u < part.end; ++u)
      d_initial[n * stride + u] = recurrence_.length(n) == 0 && d_last ? value(d_last[n * stride + u]) : S(0);
  }

  void compute_again(const Worker& worker, const Share& share, const Chunk& chunk, const Kept<Cell, T>& kept) const {
    steps_.project(worker, chunk.steps() * N, chunk.first_row * N, kept.slots);
    worker.wait();
    for (int64_t step = chunk.begin; step < chunk.end; ++step) {
      const int64_t row = recurrence_.row(step) - chunk.first_row;
      steps_.run(worker, share, step, kept.from(row * N, H), {nullptr, nullptr, nullptr});
      if (kGated) share.wait(worker);
    }
    worker.wait();
  }

  void back_one_step(const Worker& worker, const Share& share, int64_t step, const Chunk& chunk, const Kept<Cell, T>& all_kept,
                     Range units, Range state, const Packed<T>& weight_hh, const Packed<T>& weight_candidate, S* sums) const {
    const int64_t local = recurrence_.row(step) - chunk.first_row;
    const Kept<Cell, T> kept = all_kept.from(local * N, H);
    T* const d_slots = d_slots_.get() + local * N * kSlots * H;
    T* const d_normed_h = d_normed_h_.get() + (p_.norm_hh ? local * N * GH : 0);

    if (p_.weight_hr) {
      T* const d_projected = d_projected_.get() + local * N * R;
      for (int64_t n = share.rows.begin; n < share.rows.end; ++n) project_gradient(step, n, state, d_projected + n * R);
      share.wait(worker);
      gemm(share.by_batch ? share.rows : worker.part_of(N), Left<T>{d_projected, R},
           {Product<T>{weight_hr_, d_cell_h_.get(), H}});
      share.wait(worker);
    }
    if (p_.norm_hh || p_.norm_c)
      for (int64_t n = share.rows.begin; n < share.rows.end; ++n)
        normed_row_backward(step, n, kept, d_slots + n * kSlots * H, d_normed_h + (p_.norm_hh ? n * GH : 0), sums);
    else
      for (int64_t block = share.blocks.begin; block < share.blocks.end; ++block)
        for (int64_t u = 0; u < steps_.blocks.units(block); u += kLanesOfSum)
          units_backward(share.rows, step, block, u, kept, d_slots, sums);

    if constexpr (kGated) {
      share.wait(worker);
      through_weight(share.rows, {d_slots + (G - 1) * H, kSlots * H}, G - 1, 1, units,
                     {weight_candidate, d_gated_.get() + units.begin, H});
      for (int64_t block = share.blocks.begin; block < share.blocks.end; ++block)
        for (int64_t u = 0; u < steps_.blocks.units(block); u += kLanesOfSum)
          gate_backward(share.rows, step, block, u, kept, d_slots, sums);
    }

    share.wait(worker);
    const bool masked = p_.recurrent_mask;
    S* const to = (masked ? d_masked_.get() : d_h_.get()) + state.begin;
    Product<T> product{weight_hh, to, R};
    product.accumulate = !masked;
    const Left<T> left = p_.norm_hh ? Left<T>{d_normed_h, GH} : Left<T>{d_slots + hidden_offset(), kSlots * H};
    through_weight(share.rows, left, 0, Blocks::phase_gates(0), state, product);
    if (masked || step == 0 || recurrence_.uneven())
      for (int64_t n = share.rows.begin; n < share.rows.end; ++n) enter(step, n, state, units);
  }

  // The product of gradients of `gates` gates with W_hh.
  void through_weight(Range rows, const Left<T>& d, int first_gate, int gates, Range columns, const Product<T>& product) const {
    if (!few_) return gemm(rows, d, {product});
    for (int64_t n = rows.begin; n < rows.end; ++n)
      weighted_rows(d.data + n * d.stride, gates * H, p_.weight_hh + first_gate * H * R + columns.begin, R,
                    columns.end - columns.begin, product.accumulate, product.c + n * product.c_stride);
  }

  static constexpr int64_t kHiddenSlot = kGated ? 0 : kSlots - G;
  int64_t hidden_offset() const { return kHiddenSlot * H; }

  // The gradient of a step's h before its projection: of the output, and of the state as the next step or the caller has it.
  void project_gradient(int64_t step, int64_t n, Range state, T* to) const {
    const bool taken = recurrence_.taken(step, n), last = recurrence_.is_last(step, n);
    const int64_t h = n * recurrence_.h_stride(), out = recurrence_.row(step) * N * recurrence_.h_stride() + h;
    for (int64_t u = state.begin; u < state.end; u += kLanesOfSum) {
      const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, state.end - u));
      Vec<S> d{};
      if (taken) {
        d = load_partial(d_h_.get() + n * R + u, valid);
        if (p_.d_output) d += load_sum(p_.d_output + out + u, valid);
        if (last && p_.d_h_n) d += load_sum(p_.d_h_n + h + u, valid);
        store_partial(d_h_.get() + n * R + u, Vec<S>{}, valid);
      }
      store_sum(to + u, d, valid);
    }
  }

  // The gradient of the state after a step, for a vector of units.
  math::CellState<Vec<S>> state_gradient(int64_t step, int64_t n, int64_t unit, int valid) const {
    const int64_t h = n * recurrence_.h_stride() + unit, c = n * recurrence_.c_stride() + unit;
    const int64_t row = recurrence_.row(step) * N;
    const bool last = recurrence_.is_last(step, n);
    math::CellState<Vec<S>> d{};
    if (p_.weight_hr) {
      d.h = load_partial(d_cell_h_.get() + n * H + unit, valid);
    } else {
      d.h = load_partial(d_h_.get() + n * H + unit, valid);
      if (p_.d_output) d.h += load_sum(p_.d_output + row * recurrence_.h_stride() + h, valid);
      if (last && p_.d_h_n) d.h += load_sum(p_.d_h_n + h, valid);
    }
    if constexpr (Cell::kHasCell) {
      d.c = load_partial(d_c_.get() + n * H + unit, valid);
      if (p_.d_cells) d.c += load_partial(p_.d_cells + row * recurrence_.c_stride() + c, valid);
      if (last && p_.d_c_n) d.c += load_sum(p_.d_c_n + c, valid);
    }
    return d;
  }

  math::CellState<Vec<S>> entering_state(int64_t step, int64_t n, int64_t unit, int valid) const {
    math::CellState<Vec<S>> state{};
    if (!Cell::kHasCell) state.h = load_sum(recurrence_.h(step, n) + unit, valid);
    if constexpr (Cell::kHasCell) state.c = load_partial(recurrence_.c(step, n) + unit, valid);
    return state;
  }

  // What zoneout lets pass of the gradient of the new state; the rest goes straight to the entering state, and is returned.
  math::CellState<Vec<S>> zone_out(int64_t step, int64_t n, int64_t unit, int valid, math::CellState<Vec<S>>& d) const {
    const int64_t zone = (recurrence_.row(step) * N + n) * recurrence_.c_stride() + unit;
    math::CellState<Vec<S>> kept{};
    if (p_.zoneout_h) kept.h = load_sum(p_.zoneout_h + zone, valid) * d.h;
    if (p_.zoneout_c) kept.c = load_sum(p_.zoneout_c + zone, valid) * d.c;
    d.h -= kept.h;
    d.c -= kept.c;
    return kept;
  }

  void store_entering_gradient(int64_t n, int64_t unit, int valid, const math::CellState<Vec<S>>& d) const {
    if (!p_.weight_hr) store_partial(d_h_.get() + n * H + unit, d.h, valid);
    if constexpr (Cell::kHasCell) store_partial(d_c_.get() + n * H + unit, d.c, valid);
  }

  // The cell's backward pass for one vector of units of all sequences of this share.
  void units_backward(Range rows, int64_t step, int64_t block, int64_t u, const Kept<Cell, T>& kept, T* d_slots, S* sums) const {
    const int64_t unit = block * Blocks::kBlock + u, units = steps_.blocks.units(block);
    const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, units - u));
    const auto w = steps_.parameters(unit, valid);
    constexpr int kSums = kSlots + P, kFirst = kGated ? 1 : 0;
    Vec<S> sum[kSums];
    for (int i = kFirst; i < kSums; ++i) sum[i] = load_partial(sums + i * H + unit, valid);
    const bool plain = !recurrence_.uneven() && !p_.zoneout_h && !p_.zoneout_c && !p_.weight_hr && !p_.d_cells;
    const auto entering = recurrence_.entering(step);
    const T* const d_output = p_.d_output ? p_.d_output + recurrence_.row(step) * N * recurrence_.h_stride() + unit : nullptr;
    const int64_t h_stride = recurrence_.h_stride();
    const S* from = kept.slots + rows.begin * kSlots * H + steps_.blocks.at(block, 0) + u;
    T* to = d_slots + rows.begin * kSlots * H + unit;
    for (int64_t n = rows.begin; n < rows.end; ++n, from += kSlots * H, to += kSlots * H) {
      if (!recurrence_.taken(step, n)) {
        for (int i = 0; i < kSlots; ++i) store_sum(to + i * H, Vec<S>{}, valid);
        continue;
      }
      Vec<S> s[kSlots], d[kSlots]{}, dw[P + 1]{};
      for (int i = 0; i < kSlots; ++i) s[i] = load_partial(from + i * units, valid);
      math::CellState<Vec<S>> gradient{}, state{}, zoned{};
      if (plain && !recurrence_.is_last(step, n)) {
        gradient.h = load_partial(d_h_.get() + n * H + unit, valid);
        if (d_output) gradient.h += load_sum(d_output + n * h_stride, valid);
        if constexpr (Cell::kHasCell) {
          gradient.c = load_partial(d_c_.get() + n * H + unit, valid);
          state.c = load_partial(entering.c + n * entering.c_stride + unit, valid);
        } else {
          state.h = load_sum(entering.h + n * entering.h_stride + unit, valid);
        }
      } else {
        gradient = state_gradient(step, n, unit, valid);
        state = entering_state(step, n, unit, valid);
        zoned = zone_out(step, n, unit, valid, gradient);
      }
      math::cell_backward<Cell>(s, state, gradient, w.w, d, dw);
      store_entering_gradient(n, unit, valid, {gradient.h + zoned.h, gradient.c + zoned.c});
      for (int i = 0; i < kSlots; ++i) {
        store_sum(to + i * H, d[i], valid);
        sum[i] += d[i];
      }
      for (int i = 0; i < P; ++i) sum[kSlots + i] += dw[i];
    }
    for (int i = kFirst; i < kSums; ++i) store_partial(sums + i * H + unit, sum[i], valid);
  }

  // Of a gated candidate: the gates whose gradients wait for that of the gated state.
  void gate_backward(Range rows, int64_t step, int64_t block, int64_t u, const Kept<Cell, T>& kept, T* d_slots, S* sums) const {
    if constexpr (kGated) {
      const int64_t unit = block * Blocks::kBlock + u;
      const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, steps_.blocks.units(block) - u));
      Vec<S> sum = load_partial(sums + unit, valid);
      for (int64_t n = rows.begin; n < rows.end; ++n) {
        if (!recurrence_.taken(step, n)) continue;
        T* const to = d_slots + n * kSlots * H + unit;
        const S* const from = kept.slots + n * kSlots * H + steps_.blocks.at(block, 0) + u;
        Vec<S> s[kSlots], d[kSlots];
        for (int i = 0; i < kSlots; ++i) {
          s[i] = load_partial(from + i * steps_.blocks.units(block), valid);
          d[i] = load_sum(to + i * H, valid);
        }
        // The product took g * (mask * h_prev): to the gate, the mask belongs to h_prev; to h_prev, to the gradient.
        Vec<S> h_prev = load_sum(recurrence_.h(step, n) + unit, valid),
               d_gated = load_partial(d_gated_.get() + n * H + unit, valid);
        if (p_.recurrent_mask) d_gated *= load_sum(p_.recurrent_mask + n * recurrence_.h_stride() + unit, valid);
        Vec<S> dh = load_partial(d_h_.get() + n * H + unit, valid);
        Cell::backward_gate(s, h_prev, d_gated, d, dh);
        store_partial(d_h_.get() + n * H + unit, dh, valid);
        store_sum(to, d[0], valid);
        sum += d[0];
      }
      store_partial(sums + unit, sum, valid);
    }
  }

  // After the product with W_hh: the mask, and the ways out of the recurrence.
  void enter(int64_t step, int64_t n, Range state, Range units) const {
    S* const d_h = d_h_.get() + n * R;
    if (p_.recurrent_mask && recurrence_.taken(step, n)) {
      const T* const mask = p_.recurrent_mask + n * recurrence_.h_stride();
      const S* const d_masked = d_masked_.get() + n * R;
      for (int64_t u = state.begin; u < state.end; ++u) d_h[u] += d_masked[u] * value(mask[u]);
    }
    const auto from = recurrence_.entry(step, n);
    if (from == Recurrence<T>::Entry::previous || !recurrence_.taken(step, n)) return;
    const auto leave = [&](S* d, Range part, S* d_initial) {
      for (int64_t u = part.begin; u < part.end; ++u) {
        if (from == Recurrence<T>::Entry::initial && d_initial) d_initial[u] += d[u];
        d[u] = 0;
      }
    };
    leave(d_h, state, p_.d_h_0 ? p_.d_h_0 + n * recurrence_.h_stride() : nullptr);
    if (Cell::kHasCell) leave(d_c_.get() + n * H, units, p_.d_c_0 ? p_.d_c_0 + n * recurrence_.c_stride() : nullptr);
  }

  // The backward pass of one sequence's step where layer norms tie its units together.
  void normed_row_backward(int64_t step, int64_t n, const Kept<Cell, T>& kept, T* d_slots, T* d_normed_h, S* sums) const {
    if (!recurrence_.taken(step, n)) {
      std::fill_n(d_slots, kSlots * H, T{});
      if (p_.norm_hh) std::fill_n(d_normed_h, GH, T{});
      return;
    }
    if constexpr (Cell::kHasCell) {
      if (p_.norm_c) normed_cell_backward(step, n, kept, d_slots, sums);
    }
    if (!p_.norm_c)
      for (int64_t block = 0; block < steps_.blocks.count(); ++block)
        for (int64_t u = 0; u < steps_.blocks.units(block); u += kLanesOfSum)
          units_backward({n, n + 1}, step, block, u, kept, d_slots - n * kSlots * H, sums);
    if (!p_.norm_hh) return;
    if constexpr (!kGated) {
      S* const scale_sums = sums + (kSlots + P) * H;
      const int64_t* const natural = steps_.hidden_rows(0);
      const S* const normed = kept.normed_h + n * GH;
      const Buffer<S> d(GH);
      for (int64_t j = 0; j < GH; ++j) {
        const S d_a = value(d_slots[hidden_offset() + natural[j]]);
        scale_sums[natural[j]] += d_a * normed[j];
        d.get()[j] = d_a * value(p_.norm_hh[natural[j]]);
      }
      normalise_backward(normed, kept.deviation_h[n], d.get(), GH);
      const Buffer<S> in_order(GH);
      for (int64_t j = 0; j < GH; ++j) in_order.get()[natural[j]] = d.get()[j];
      convert_back(in_order.get(), GH, d_normed_h);
    }
  }

  // Of a cell whose output sees c layer-normalised: the output first, then, through the norm, the update of c.
  void normed_cell_backward(int64_t step, int64_t n, const Kept<Cell, T>& kept, T* d_slots, S* sums) const {
    S* const norm_sums = sums + (kSlots + P) * H + (p_.norm_hh ? GH : 0);
    S* const slots = kept.slots + n * kSlots * H;
    const S* const normed = kept.normed_c + n * H;
    const Buffer<S> d_normed(H), d_c(H), zoned_c(H);
    const auto add_parameter_sums = [&](const Vec<S>(&dw)[P + 1], int64_t u, int valid) {
      for (int i = 0; i < P; ++i) add(sums + (kSlots + i) * H + u, dw[i], valid);
    };
    steps_.for_each_vector(slots, [&](const Vec<S>(&s)[kSlots], int64_t u, int valid) {
      Vec<S> d[kSlots]{}, dw[P + 1]{}, d_shown;
      math::CellState<Vec<S>> gradient = state_gradient(step, n, u, valid);
      const auto zoned = zone_out(step, n, u, valid, gradient);
      const Vec<S> hat = load_partial(normed + u, valid), scale = load_sum(p_.norm_c + u, valid);
      const Vec<S> c = Cell::cell_state(s, load_partial(recurrence_.c(step, n) + u, valid));
      Cell::backward_output(s, c, steps_.shown_state(hat, u, valid), gradient.h, steps_.parameters(u, valid).w, d, gradient.c,
                            d_shown, dw);
      add(norm_sums + u, d_shown * hat, valid);
      add(norm_sums + H + u, d_shown, valid);
      store_partial(d_normed.get() + u, d_shown * scale, valid);
      store_partial(d_c.get() + u, gradient.c, valid);
      store_partial(zoned_c.get() + u, zoned.c, valid);
      if (!p_.weight_hr) store_partial(d_h_.get() + n * H + u, zoned.h, valid);
      for (int i = 0; i < kSlots; ++i) store_sum(d_slots + i * H + u, d[i], valid);
      add_parameter_sums(dw, u, valid);
    });
    normalise_backward(normed, kept.deviation_c[n], d_normed.get(), H);
    steps_.for_each_vector(slots, [&](const Vec<S>(&s)[kSlots], int64_t u, int valid) {
      Vec<S> d[kSlots], dw[P + 1]{};
      for (int i = 0; i < kSlots; ++i) d[i] = load_sum(d_slots + i * H + u, valid);
      const Vec<S> dc = load_partial(d_c.get() + u, valid) + load_partial(d_normed.get() + u, valid);
      const Vec<S> c_prev = load_partial(recurrence_.c(step, n) + u, valid);
      const Vec<S> dc_prev = Cell::backward_update(s, c_prev, dc, steps_.parameters(u, valid).w, d, dw);
      store_partial(d_c_.get() + n * H + u, dc_prev + load_partial(zoned_c.get() + u, valid), valid);
      for (int i = 0; i < kSlots; ++i) {
        store_sum(d_slots + i * H + u, d[i], valid);
        add(sums + i * H + u, d[i], valid);
      }
      add_parameter_sums(dw, u, valid);
    });
  }

  static S value(T x) { return RecurrentSteps<Cell, T>::value(x); }

  static void add(S* to, Vec<S> x, int valid) { store_partial(to, load_partial(to, valid) + x, valid); }

  // Products over the steps of a chunk: gradients of weights and input. first: of the first chunk, which begins their sums.
  void finish_chunk(const Worker& worker, const Chunk& chunk, const Kept<Cell, T>& kept, bool first) const {
    const int64_t rows = chunk.steps() * N, before = chunk.first_row * N;
    const Left<T> d_inputs{d_slots_.get(), kSlots * H};
    if (p_.d_input && p_.weight_ih) input_gradient(worker.part_of(rows), p_.d_input + before * D);
    if (p_.d_input && !p_.weight_ih) projected_gradient(worker.part_of(rows), p_.d_input + before * p_.heads * GH);
    if (!p_.d_weight_hh) return;

    // Rows that a shorter last chunk lacks are zero.
    if (rows < chunk_ * N) {
      const Range missing = worker.part_of(chunk_ * N - rows);
      const auto clear = [&](const Buffer<T>& buffer, int64_t size) {
        if (buffer.get())
          std::fill(buffer.get() + (rows + missing.begin) * size, buffer.get() + (rows + missing.end) * size, T{});
      };
      clear(d_slots_, kSlots * H);
      clear(d_normed_h_, GH);
      clear(d_projected_, R);
    }
    // Two rows are in use at a time.
    const Buffer<T> copies(2 * std::max(R, H));
    const auto copy_of = [&](int64_t m) { return copies.get() + m % 2 * std::max(R, H); };
    const auto pack = [&](const Packed<T>& packed, const auto& row_of) {
      pack_rows(packed, worker.part_of(packed.depth), [&](int64_t m) -> const T* {
        if (m >= rows) return zeros_.get();
        const int64_t row = m / N + chunk.first_row, step = p_.reverse ? p_.steps - 1 - row : row, n = m % N;
        return recurrence_.taken(step, n) ? row_of(m, step, n) : zeros_.get();
      });
    };
    // Where every row comes after the one N rows before (or, in reverse, behind) it, and all are taken, no division is needed.
    const bool plain = !recurrence_.uneven() && rows == chunk_ * N;
    if (p_.d_weight_ih && plain && !p_.lengths)
      pack_rows(input_, worker.part_of(rows), [&](int64_t m) { return p_.input + (before + m) * D; });
    else if (p_.d_weight_ih)
      pack(input_, [&](int64_t m, int64_t, int64_t) { return p_.input + (before + m) * D; });
    if (plain && !p_.recurrent_mask) {
      pack_rows(h_prev_, worker.part_of(rows), [&](int64_t m) {
        const int64_t previous = before + m + (p_.reverse ? N : -N);
        const bool first = previous < 0 || previous >= p_.steps * N;
        return first ? recurrence_.h(0, (before + m) % N) : p_.output + previous * recurrence_.h_stride();
      });
    } else {
      pack(h_prev_, [&](int64_t m, int64_t step, int64_t n) -> const T* {
        if (!p_.recurrent_mask) return recurrence_.h(step, n);
        HiddenInput<T>::copy_row(p_, recurrence_, step, n, copy_of(m));
        return copy_of(m);
      });
    }
    if (kGated)
      pack(gated_, [&](int64_t m, int64_t step, int64_t n) -> const T* {
        HiddenInput<T>::copy_row(p_, recurrence_, step, n, copy_of(m));
        steps_.for_each_vector(kept.slots + m * kSlots * H, [&](const Vec<S>(&s)[kSlots], int64_t u, int valid) {
          store_sum(copy_of(m) + u, s[0] * load_sum(copy_of(m) + u, valid), valid);
        });
        return copy_of(m);
      });
    if (p_.d_weight_hr)
      pack(cell_h_, [&](int64_t m, int64_t, int64_t) -> const T* {
        convert_back(kept.cell_h + m * H, H, copy_of(m));
        return copy_of(m);
      });
    worker.wait();

    const auto into = [first](const Packed<T>& b, S* c, int64_t stride, const int64_t* row_map = nullptr) {
      Product<T> product{b, c, stride, row_map};
      product.accumulate = !first;
      return product;
    };
    const auto weight_gradient = [&](int64_t size, Left<T> d, std::initializer_list<Product<T>> products) {
      d.transposed = true;
      gemm(worker.part_of(size), d, products);
    };
    const Product<T> to_hh = into(h_prev_, p_.d_weight_hh, R);
    const bool one_product = p_.d_weight_ih && kSlots == G && !kGated && !p_.norm_hh;
    if (one_product) {
      weight_gradient(GH, d_inputs, {into(input_, p_.d_weight_ih, D), to_hh});
    } else {
      if (p_.d_weight_ih) weight_gradient(GH, d_inputs, {into(input_, p_.d_weight_ih, D, input_rows_.get())});
      const Left<T> d_hidden{d_slots_.get() + hidden_offset(), kSlots * H};
      if (p_.norm_hh)
        weight_gradient(GH, {d_normed_h_.get(), GH}, {to_hh});
      else if (!kGated)
        weight_gradient(GH, d_hidden, {to_hh});
      else {
        weight_gradient(GH - H, d_hidden, {to_hh});
        weight_gradient(H, {d_slots_.get() + (G - 1) * H, kSlots * H}, {into(gated_, p_.d_weight_hh + (GH - H) * R, R)});
      }
    }
    if (p_.d_weight_hr) weight_gradient(R, {d_projected_.get(), R}, {into(cell_h_, p_.d_weight_hr, H)});
  }

  void input_gradient(Range rows, T* d_input) const {
    if (few_) {
      const Buffer<S> sum(D);
      for (int64_t m = rows.begin; m < rows.end; ++m) {
        for (int i = 0; i < G; ++i)
          weighted_rows(d_slots_.get() + (m * kSlots + i) * H, H, p_.weight_ih + math::gate_of_input_slot<Cell>(i) * H * D, D, D,
                        i > 0, sum.get());
        convert_back(sum.get(), D, d_input + m * D);
      }
    } else if constexpr (std::is_same_v<T, S>) {
      gemm(rows, Left<T>{d_slots_.get(), kSlots * H}, {Product<T>{weight_ih_, d_input, D}});
    } else {
      const Buffer<S> sums(kRowsInBlock * D);
      for (int64_t m = rows.begin; m < rows.end; m += kRowsInBlock) {
        const int64_t count = std::min(kRowsInBlock, rows.end - m);
        gemm({0, count}, Left<T>{d_slots_.get() + m * kSlots * H, kSlots * H}, {Product<T>{weight_ih_, sums.get(), D}});
        convert_back(sums.get(), count * D, d_input + m * D);
      }
    }
  }

  void projected_gradient(Range rows, T* d_input) const {
    for (int64_t m = rows.begin; m < rows.end; ++m)
      for (int i = 0; i < G; ++i)
        std::copy_n(d_slots_.get() + (m * kSlots + i) * H, H,
                    d_input + m * p_.heads * GH + math::gate_of_input_slot<Cell>(i) * H);
  }

  void zero_weight_gradients(const Worker& worker) const {
    if (worker.thread != 0) return;
    const auto zero = [](S* d, int64_t size) {
      if (d) std::fill_n(d, size, S(0));
    };
    zero(p_.d_weight_ih, GH * D);
    zero(p_.d_weight_hh, GH * R);
    zero(p_.d_weight_hr, R * H);
  }

  // Gradients of what is added or multiplied unit by unit: sums over the steps, each thread's part in its own row.
  void add_up_sums(const Worker& worker) const {
    worker.wait();
    const Range units = worker.part_of(H);
    const auto sum = [&](int64_t at) {
      S total = 0;
      for (int i = 0; i < worker.team; ++i) total += sums_.get()[i * sums_size() + at];
      return total;
    };
    const int64_t norms = (kSlots + P) * H, norm_c = norms + (p_.norm_hh ? GH : 0);
    for (int64_t u = units.begin; u < units.end; ++u) {
      for (int i = 0; i < G; ++i) {
        if (p_.d_bias_ih) p_.d_bias_ih[math::gate_of_input_slot<Cell>(i) * H + u] = sum(i * H + u);
        if (p_.d_bias_hh) p_.d_bias_hh[i * H + u] = sum((kSlots - G + i) * H + u);
        if (p_.d_norm_hh) p_.d_norm_hh[i * H + u] = sum(norms + i * H + u);
      }
      for (int i = 0; i < P; ++i)
        if (p_.d_weight_cell) p_.d_weight_cell[i * recurrence_.c_stride() + u] = sum((kSlots + i) * H + u);
      if (p_.d_norm_c) p_.d_norm_c[u] = sum(norm_c + u);
      if (p_.d_norm_c_bias) p_.d_norm_c_bias[u] = sum(norm_c + H + u);
    }
  }

  RecurrentBackwardParams<T> p_;
  const int64_t N, D, H, R, GH;
  const int64_t chunk_;
  const bool few_;  // weights are read in place
  const Recurrence<T> recurrence_;
  const RecurrentSteps<Cell, T> steps_;
  const Buffer<S> recomputed_;        // Kept of a chunk
  const Buffer<T> d_slots_;           // [chunk * N, kSlots * H]
  const Buffer<T> d_normed_h_;        // [chunk * N, G * H]: gradient of the product with W_hh, under its norm
  const Buffer<S> d_h_, d_c_;         // [N, R], [N, H]: gradients of the state between steps
  const Buffer<S> d_masked_;          // [N, R]
  const Buffer<S> d_gated_;           // [N, H]
  const Buffer<T> d_projected_;       // [chunk * N, R]: gradient of h after its projection
  const Buffer<S> d_cell_h_;          // [N, H]: and before it
  const Buffer<S> sums_;              // [threads, sums_size()]
  const Buffer<int64_t> input_rows_;  // [G * H]: the row of W_ih for each input slot's column
  const Packed<T> weight_ih_;         // B of d_input
  const Packed<T> weight_hr_;         // B of the gradient of h before its projection
  const Packed<T> input_;             // B of d_weight_ih, and so on: of a chunk
  const Packed<T> h_prev_;
  const Packed<T> gated_;
  const Packed<T> cell_h_;
  const Buffer<T> zeros_;
};

template <class Cell, class T>
void recurrent_backward(const RecurrentBackwardParams<T>& p) {
  for_each_head<RecurrentBackward<Cell, T>>(p, [](RecurrentBackwardParams<T> head, int64_t k) {
    const int64_t H = head.hidden_size, R = head.state_size, GH = Cell::kGates * H;
    const auto move = [k](auto*& pointer, int64_t size) {
      if (pointer) pointer += k * size;
    };
    move(head.kept, head.steps * head.batch * Kept<Cell, T>::size(head));
    if (!head.weight_ih) move(head.d_input, GH);
    move_to_head(head, k, Cell::kGates);
    for (const T** h : {&head.output, &head.d_output, &head.d_h_n}) move(*h, R);
    move(head.cells, H);
    move(head.d_c_n, H);
    move(head.d_cells, H);
    move(head.d_h_0, R);
    move(head.d_c_0, H);
    move(head.d_weight_hh, GH * R);
    for (Sum<T>** d : {&head.d_bias_ih, &head.d_bias_hh, &head.d_norm_hh}) move(*d, GH);
    for (Sum<T>** d : {&head.d_weight_cell, &head.d_norm_c, &head.d_norm_c_bias}) move(*d, H);
    return head;
  });
}

}  // namespace seqkern::cpu::SEQKERN_ISA
