// The forward computation of steps, as forward runs it and backward does again where gates were not kept.
#pragma once

#include "cpu/few_rows.h"
#include "cpu/recurrence.h"
#include "cpu/recurrent_norm.h"

namespace seqkern::cpu::SEQKERN_ISA {

// Where the states after steps go. Null: nowhere.
template <class T>
struct StepOutputs {
  T* output;      // [T, N, K * R]
  Sum<T>* cells;  // [T, N, K * H]
  Sum<T>* c_n;    // [N, K * H]: in place of cells
};

// What the product with W_hh reads of some sequences at a step: the entering states as they lie in memory, if they are there side
// by side, else copies of them.
template <class T>
struct HiddenInput {
  const T* data;
  int64_t stride;  // 0: all sequences share one row
  bool zero;       // all are zeros
  Buffer<T> copies;

  HiddenInput(const RecurrentParams<T>& p, const Recurrence<T>& recurrence, int64_t step, Range rows)
      : zero(step == 0 && !p.h_0 && !recurrence.uneven()),
        copies(p.recurrent_mask || recurrence.uneven() ? p.batch * p.state_size : 0) {
    if (copies.get()) {
      for (int64_t n = rows.begin; n < rows.end; ++n) copy_row(p, recurrence, step, n, copies.get() + n * p.state_size);
      data = copies.get();
      stride = p.state_size;
    } else {
      const auto entering = recurrence.entering(step);
      data = entering.h;
      stride = entering.h_stride;
    }
  }

  static void copy_row(const RecurrentParams<T>& p, const Recurrence<T>& recurrence, int64_t step, int64_t n, T* to) {
    const T* const h = recurrence.h(step, n);
    if (!p.recurrent_mask) {
      std::copy_n(h, p.state_size, to);
      return;
    }
    const T* const mask = p.recurrent_mask + n * recurrence.h_stride();
    for (int64_t u = 0; u < p.state_size; u += kLanes<Sum<T>>) {
      const int valid = static_cast<int>(std::min<int64_t>(kLanes<Sum<T>>, p.state_size - u));
      store_sum(to + u, load_sum(h + u, valid) * load_sum(mask + u, valid), valid);
    }
  }
};

template <class Cell, class T>
class RecurrentSteps {
 public:
  using S = Sum<T>;
  using Blocks = GateBlocks<Cell, S>;
  static constexpr int G = Cell::kGates, kSlots = Cell::kSlots, kLanesOfSum = kLanes<S>;

  // runs: whether pack, project and run will be called.
  RecurrentSteps(const RecurrentParams<T>& p, const Recurrence<T>& recurrence, bool runs)
      : blocks{p.hidden_size},
        p_(p),
        recurrence_(recurrence),
        few_(few_rows(p.steps, p.batch)),
        input_rows_(G * p.hidden_size),
        hidden_rows_(G * p.hidden_size),
        weight_ih_(runs && !few_ && p.weight_ih ? p.input_size : 0, G * p.hidden_size, kInputPanel),
        weight_hh_{
            {runs && !few_ ? p.state_size : 0, Blocks::phase_gates(0) * p.hidden_size, hidden_panel(0)},
            {runs && !few_ && Blocks::kPhases == 2 ? p.state_size : 0, Blocks::phase_gates(1) * p.hidden_size, hidden_panel(1)}},
        weight_hr_(runs && p.weight_hr ? p.hidden_size : 0, p.weight_hr ? p.state_size : 0),
        bias_(round_to_lanes<S>(G * p.hidden_size)),
        candidate_bias_(p.hidden_size),
        gated_(Blocks::kPhases == 2 ? p.batch * p.hidden_size : 0),
        cell_h_(p.weight_hr ? p.batch * p.hidden_size : 0),
        projected_(p.weight_hr ? p.batch * p.state_size : 0) {
    if ((!runs || few_) && !p.norm_hh) return;
    blocks.input_rows(input_rows_.get());
    for (int phase = 0; phase < Blocks::kPhases; ++phase) blocks.hidden_rows(phase, hidden_rows(phase));
  }

  // Packs this worker's part of the weights; wait before their use.
  void pack(const Worker& worker) const {
    const int64_t H = p_.hidden_size, D = p_.input_size, R = p_.state_size;
    const int64_t* input_row = input_rows_.get();
    if (p_.weight_ih && !few_)
      pack_columns(weight_ih_, worker.part_of(weight_ih_.panels()), [&](int64_t j) { return p_.weight_ih + input_row[j] * D; });
    for (int phase = 0; phase < Blocks::kPhases && !few_; ++phase) {
      const int64_t* row = hidden_rows(phase);
      pack_columns(weight_hh_[phase], worker.part_of(weight_hh_[phase].panels()),
                   [&](int64_t j) { return p_.weight_hh + row[j] * R; });
    }
    if (p_.weight_hr)
      pack_columns(weight_hr_, worker.part_of(weight_hr_.panels()), [&](int64_t j) { return p_.weight_hr + j * H; });
    if (worker.thread == 0) add_up_biases();
  }

  // slots[m] = input part of the pre-activations, with the biases, of `count` rows from first_row of the arrays: this worker's
  // part.
  void project(const Worker& worker, int64_t count, int64_t first_row, S* slots) const {
    const int64_t H = p_.hidden_size, D = p_.input_size;
    if (p_.weight_ih && few_) {
      project_few(worker.part_of(blocks.count()), count, p_.input + first_row * D, slots);
      return;
    }
    const Range rows = worker.part_of(count);
    if (p_.weight_ih) {
      Product<T> product{weight_ih_, slots, kSlots * H};
      product.bias = bias_.get();
      product.group = kInputPanels;
      if (kSlots != G) product.group_stride = kSlots * Blocks::kBlock;
      gemm(rows, Left<T>{p_.input + first_row * D, D}, {product});
    } else {
      for (int64_t m = rows.begin; m < rows.end; ++m) take_projected(first_row + m, slots + m * kSlots * H);
    }
    for (int64_t m = rows.begin; m < rows.end; ++m) begin_candidates({0, blocks.count()}, slots + m * kSlots * H);
  }

  // This share of one step. slots: of the step [N, kSlots * H], as project left them in. kept: of the step.
  void run(const Worker& worker, const Share& share, int64_t step, const Kept<Cell, T>& kept, const StepOutputs<T>& out) const {
    if (p_.batch == 0) return;
    const int64_t H = p_.hidden_size;
    const HiddenInput hidden(p_, recurrence_, step, share.rows);
    TileUnit<T> unit;
    if (p_.norm_hh) add_normed_product(unit, share.rows, hidden, kept);
    for (int64_t block = share.blocks.begin; block < share.blocks.end; ++block) {
      if (!p_.norm_hh && !hidden.zero)
        product(unit, share.rows, block, 0, hidden.data, hidden.stride, kept.slots, kSlots * H,
                blocks.at(block, Blocks::phase_slot(0)));
      if (p_.norm_c) continue;
      if constexpr (Blocks::kPhases == 2)
        apply_gate(share.rows, step, block, kept.slots);
      else
        apply_cell(share.rows, step, block, kept, out);
    }
    if constexpr (Blocks::kPhases == 2) {
      share.wait(worker);
      for (int64_t block = share.blocks.begin; block < share.blocks.end; ++block) {
        if (!hidden.zero)
          product(unit, share.rows, block, 1, gated_.get(), H, kept.slots, kSlots * H, blocks.at(block, Blocks::phase_slot(1)));
        apply_cell(share.rows, step, block, kept, out);
      }
    }
    if (p_.norm_c) apply_normed_cell(share.rows, step, kept, out);
    if (p_.weight_hr && out.output) {
      share.wait(worker);
      project_state(share.by_batch ? share.rows : worker.part_of(p_.batch), step, out.output);
    }
  }

  static S value(T x) {
    if constexpr (sizeof(T) == sizeof(S))
      return x;
    else
      return load_sum(&x, 1)[0];
  }

  int64_t* hidden_rows(int phase) const {
    return hidden_rows_.get() + (phase == 0 ? 0 : Blocks::phase_gates(0) * p_.hidden_size);
  }

  // The cell's own parameters of a vector of units.
  struct Parameters {
    Vec<S> w[Cell::kParameters > 0 ? Cell::kParameters : 1];
  };
  Parameters parameters([[maybe_unused]] int64_t unit, [[maybe_unused]] int valid) const {
    Parameters found{};
    for (int i = 0; i < Cell::kParameters; ++i) found.w[i] = load_sum(p_.weight_cell + i * recurrence_.c_stride() + unit, valid);
    return found;
  }

  // What the output sees of a normalised c.
  Vec<S> shown_state(Vec<S> normed, int64_t unit, int valid) const {
    normed *= load_sum(p_.norm_c + unit, valid);
    return p_.norm_c_bias ? normed + load_sum(p_.norm_c_bias + unit, valid) : normed;
  }

  // Calls body(s, unit, valid) for the slots s of each vector of units of a row [kSlots * H].
  template <class Body>
  void for_each_vector(const S* slots, const Body& body) const {
    for (int64_t block = 0; block < blocks.count(); ++block)
      for (int64_t u = 0; u < blocks.units(block); u += kLanesOfSum) {
        const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, blocks.units(block) - u));
        Vec<S> s[kSlots];
        for (int i = 0; i < kSlots; ++i) s[i] = load_partial(slots + blocks.at(block, i) + u, valid);
        body(s, block * Blocks::kBlock + u, valid);
      }
  }

  const Blocks blocks;

 private:
  static constexpr int64_t kInputPanel = kSlots == G ? kPanelVectors * kLanes<S> : Blocks::panel(G);
  static constexpr int kInputPanels =
      static_cast<int>(Blocks::columns(G) / kInputPanel > 0 ? Blocks::columns(G) / kInputPanel : 1);

  int64_t hidden_panel(int phase) const {
    const int64_t wide = Blocks::panel(Blocks::phase_gates(phase)) / kLanesOfSum;
    return panel_vectors<T>(wide, p_.batch) * kLanesOfSum;
  }

  void add_up_biases() const {
    const int64_t H = p_.hidden_size;
    S* to = bias_.get();
    for (int64_t block = 0; block < blocks.count(); ++block)
      for (int i = 0; i < G; ++i) {
        const int gate = math::gate_of_input_slot<Cell>(i);
        const bool with_hidden = p_.bias_hh && (Cell::kCandidate != Candidate::apart || gate != G - 1);
        const int64_t first = gate * H + block * Blocks::kBlock, units = blocks.units(block);
        for (int64_t u = 0; u < units; u += kLanesOfSum) {
          const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, units - u));
          Vec<S> sum{};
          if (p_.bias_ih) sum += load_sum(p_.bias_ih + first + u, valid);
          if (with_hidden) sum += load_sum(p_.bias_hh + first + u, valid);
          store_partial(to + u, sum, valid);
        }
        to += units;
      }
    std::fill(to, bias_.get() + round_to_lanes<S>(G * H), S(0));
    if (Cell::kCandidate != Candidate::apart) return;
    if (p_.bias_hh)
      convert(p_.bias_hh + (G - 1) * H, H, candidate_bias_.get());
    else
      std::fill_n(candidate_bias_.get(), H, S(0));
  }

  void project_few(Range part, int64_t count, const T* input, S* slots) const {
    const int64_t H = p_.hidden_size, D = p_.input_size;
    for (int64_t block = part.begin; block < part.end; ++block)
      for (int i = 0; i < G; ++i)
        for (int64_t u = 0; u < blocks.units(block); u += kLanesOfSum) {
          const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, blocks.units(block) - u));
          const T* const weight = p_.weight_ih + (math::gate_of_input_slot<Cell>(i) * H + block * Blocks::kBlock + u) * D;
          const Vec<S> bias = load_partial(bias_.get() + block * Blocks::columns(G) + i * blocks.units(block) + u, valid);
          for (int64_t m = 0; m < count; ++m)
            store_partial(slots + m * kSlots * H + blocks.at(block, i) + u, bias + dot_rows(weight, D, valid, input + m * D, D),
                          valid);
        }
    for (int64_t m = 0; m < count; ++m) begin_candidates(part, slots + m * kSlots * H);
  }

  // The bias of a candidate's hidden part, where it stays apart.
  void begin_candidates(Range part, S* slots) const {
    if constexpr (kSlots != G)
      for (int64_t block = part.begin; block < part.end; ++block)
        std::copy_n(candidate_bias_.get() + block * Blocks::kBlock, blocks.units(block), slots + blocks.at(block, kSlots - 1));
  }

  void take_projected(int64_t row, S* slots) const {
    const int64_t H = p_.hidden_size;
    const T* input = p_.input + row * p_.heads * G * H;
    const S* bias = bias_.get();
    for (int64_t block = 0; block < blocks.count(); ++block)
      for (int i = 0; i < G; ++i) {
        const T* from = input + math::gate_of_input_slot<Cell>(i) * H + block * Blocks::kBlock;
        S* to = slots + blocks.at(block, i);
        const int64_t units = blocks.units(block);
        for (int64_t u = 0; u < units; u += kLanesOfSum) {
          const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, units - u));
          store_partial(to + u, load_sum(from + u, valid) + load_partial(bias + u, valid), valid);
        }
        bias += units;
      }
  }

  // to[n * stride + column ...] += h W_hh^T, for the columns of one block and phase.
  void product(TileUnit<T>& unit, Range rows, int64_t block, int phase, const T* h, int64_t h_stride, S* to, int64_t stride,
               int64_t column) const {
    if (few_) {
      const int64_t units = blocks.units(block), depth = p_.state_size;
      const int first_gate = phase == 0 ? 0 : G - 1;
      for (int i = 0; i < (phase == 0 ? Blocks::phase_gates(0) : 1); ++i)
        for (int64_t u = 0; u < units; u += kLanesOfSum) {
          const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, units - u));
          const T* const rows_of_weight = p_.weight_hh + ((first_gate + i) * p_.hidden_size + block * Blocks::kBlock + u) * depth;
          for (int64_t n = rows.begin; n < rows.end; ++n) {
            S* const slot = to + n * stride + column + i * units + u;
            store_partial(slot, load_partial(slot, valid) + dot_rows(rows_of_weight, depth, valid, h + n * h_stride, depth),
                          valid);
          }
        }
      return;
    }
    const Packed<T>& weight = weight_hh_[phase];
    const int64_t panels = Blocks::columns(Blocks::phase_gates(phase)) / weight.panel;
    const int64_t R = weight.depth, pass = even_part<T>(R, kPassRows);
    const int64_t begin = block * panels, end = std::min(begin + panels, weight.panels());
    for (int64_t k = 0; k < R; k += pass)
      for (int64_t panel = begin; panel < end; ++panel)
        for_each_tile(rows, unit.rows(weight.panel), [&](int64_t n, int64_t size) {
          S* c[TileUnit<T>::kMostRows];
          for (int64_t r = 0; r < size; ++r) c[r] = to + (n + r) * stride + column + (panel - begin) * weight.panel;
          unit.multiply(size, weight.width(panel), std::min(pass, R - k), h + n * h_stride + k, h_stride, weight.at(panel, k), c,
                        nullptr, true);
        });
  }

  // Of a gated candidate: the other gates, and the gate's product with the entering state.
  void apply_gate(Range rows, int64_t step, int64_t block, S* slots) const {
    if constexpr (Blocks::kPhases == 2) {
      const int64_t H = p_.hidden_size, units = blocks.units(block), first = block * Blocks::kBlock;
      for (int64_t n = rows.begin; n < rows.end; ++n) {
        S* const gates = slots + n * kSlots * H + blocks.at(block, 0);
        const T* const h_prev = recurrence_.h(step, n) + first;
        for (int64_t u = 0; u < units; u += kLanesOfSum) {
          const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, units - u));
          Vec<S> s[kSlots];
          for (int i = 0; i + 1 < G; ++i) s[i] = load_partial(gates + i * units + u, valid);
          s[G - 1] = Vec<S>{};
          Vec<S> h = load_sum(h_prev + u, valid);
          if (p_.recurrent_mask) h *= load_sum(p_.recurrent_mask + n * recurrence_.h_stride() + first + u, valid);
          store_sum(gated_.get() + n * H + first + u, Cell::gate(s, parameters(first + u, valid).w) * h, valid);
          for (int i = 0; i + 1 < G; ++i) store_partial(gates + i * units + u, s[i], valid);
        }
      }
    }
  }

  T* cell_output(int64_t step, int64_t n, const StepOutputs<T>& out) const {
    if (p_.weight_hr) return cell_h_.get() + n * p_.hidden_size;
    return out.output ? out.output + (recurrence_.row(step) * p_.batch + n) * recurrence_.h_stride() : nullptr;
  }
  S* cell_state(int64_t step, int64_t n, const StepOutputs<T>& out) const {
    if (out.cells) return out.cells + (recurrence_.row(step) * p_.batch + n) * recurrence_.c_stride();
    return out.c_n ? out.c_n + n * recurrence_.c_stride() : nullptr;
  }

  void apply_cell(Range rows, int64_t step, int64_t block, const Kept<Cell, T>& kept, const StepOutputs<T>& out) const {
    const int64_t H = p_.hidden_size, units = blocks.units(block), first = block * Blocks::kBlock, N = p_.batch;
    const bool uneven = recurrence_.uneven(), needs_h = !Cell::kHasCell || p_.zoneout_h;
    const bool plain = !uneven && !p_.zoneout_h && !p_.zoneout_c && !p_.weight_hr;
    const auto entering = recurrence_.entering(step);
    S* slots = kept.slots + rows.begin * kSlots * H + blocks.at(block, 0);
    T* h_out = cell_output(step, rows.begin, out);
    S* c_out = Cell::kHasCell ? cell_state(step, rows.begin, out) : nullptr;
    const int64_t h_step = p_.weight_hr ? H : recurrence_.h_stride(), c_step = recurrence_.c_stride();
    for (int64_t n = rows.begin; n < rows.end;
         ++n, slots += kSlots * H, h_out += h_out ? h_step : 0, c_out += c_out ? c_step : 0) {
      if (!recurrence_.taken(step, n)) {
        if (h_out) std::fill_n(h_out + first, units, T{});
        if (out.cells || (c_out && p_.reverse)) std::fill_n(c_out + first, units, S{});  // c_n keeps the last state
        continue;
      }
      const T* const h_prev = !needs_h ? nullptr : (uneven ? recurrence_.h(step, n) : entering.h + n * entering.h_stride) + first;
      const S* const c_prev =
          !Cell::kHasCell ? nullptr : (uneven ? recurrence_.c(step, n) : entering.c + n * entering.c_stride) + first;
      for (int64_t u = 0; u < units; u += kLanesOfSum) {
        const int valid = static_cast<int>(std::min<int64_t>(kLanesOfSum, units - u));
        Vec<S> s[kSlots];
        for (int i = 0; i < kSlots; ++i) s[i] = load_partial(slots + i * units + u, valid);
        math::CellState<Vec<S>> state{};
        if (needs_h) state.h = load_sum(h_prev + u, valid);
        if constexpr (Cell::kHasCell) state.c = load_partial(c_prev + u, valid);
        const math::CellState<Vec<S>> previous = state;
        math::cell_forward<Cell>(s, state, parameters(first + u, valid).w);
        if (kept.for_backward)
          for (int i = 0; i < kSlots; ++i) store_partial(slots + i * units + u, s[i], valid);
        if (plain) {
          if (h_out) store_sum(h_out + first + u, state.h, valid);
          if (Cell::kHasCell && c_out) store_partial(c_out + first + u, state.c, valid);
          continue;
        }
        const int64_t zone = (recurrence_.row(step) * N + n) * c_step + first + u;
        finish_cell(previous, state, zone, valid, h_out ? h_out + first + u : nullptr, c_out ? c_out + first + u : nullptr);
        if (p_.weight_hr && kept.cell_h) store_partial(kept.cell_h + n * H + first + u, state.h, valid);
      }
    }
  }

  // Zoneout, and the new states to memory.
  void finish_cell(const math::CellState<Vec<S>>& previous, math::CellState<Vec<S>> state, int64_t zone, int valid, T* h_out,
                   S* c_out) const {
    if (p_.zoneout_h) state.h = math::zone_out(load_sum(p_.zoneout_h + zone, valid), previous.h, state.h);
    if (h_out) store_sum(h_out, state.h, valid);
    if constexpr (Cell::kHasCell) {
      if (p_.zoneout_c) state.c = math::zone_out(load_sum(p_.zoneout_c + zone, valid), previous.c, state.c);
      if (c_out) store_partial(c_out, state.c, valid);
    }
  }

  // Adds the layer-normalised product with W_hh to the slots of whole rows.
  void add_normed_product(TileUnit<T>& unit, Range rows, const HiddenInput<T>& hidden, const Kept<Cell, T>& kept) const {
    if constexpr (Blocks::kPhases == 1) {
      const int64_t H = p_.hidden_size, GH = G * H;
      const Buffer<S> memory(kept.normed_h ? 0 : p_.batch * GH);
      S* const products = kept.normed_h ? kept.normed_h : memory.get();
      std::fill(products + rows.begin * GH, products + rows.end * GH, S(0));
      for (int64_t block = 0; block < blocks.count(); ++block)
        product(unit, rows, block, 0, hidden.data, hidden.stride, products, GH, block * Blocks::columns(G));
      for (int64_t n = rows.begin; n < rows.end; ++n) {
        const S* normed = products + n * GH;
        const S scale = normalise(products + n * GH, GH);
        if (kept.deviation_h) kept.deviation_h[n] = scale;
        for (int64_t block = 0; block < blocks.count(); ++block)
          for (int i = 0; i < G; ++i) {
            const T* const weight = p_.norm_hh + i * H + block * Blocks::kBlock;
            S* const slot = kept.slots + n * kSlots * H + blocks.at(block, kSlots - G + i);
            for (int64_t u = 0; u < blocks.units(block); ++u) slot[u] += value(weight[u]) * *normed++;
          }
      }
    }
  }

  // The cells of whole rows, with the layer norm of c before the output.
  void apply_normed_cell(Range rows, int64_t step, const Kept<Cell, T>& kept, const StepOutputs<T>& out) const {
    if constexpr (Cell::kHasCell) {
      const int64_t H = p_.hidden_size;
      const Buffer<S> new_c(H), memory(H);
      for (int64_t n = rows.begin; n < rows.end; ++n) {
        T* const h_out = cell_output(step, n, out);
        S* const c_out = cell_state(step, n, out);
        if (!recurrence_.taken(step, n)) {
          if (h_out) std::fill_n(h_out, H, T{});
          if (out.cells) std::fill_n(c_out, H, S{});
          continue;
        }
        S* const normed = kept.normed_c ? kept.normed_c + n * H : memory.get();
        S* const slots = kept.slots + n * kSlots * H;
        for_each_vector(slots, [&](Vec<S>(&s)[kSlots], int64_t u, int valid) {
          const Vec<S> c = Cell::update(s, load_partial(recurrence_.c(step, n) + u, valid), parameters(u, valid).w);
          store_partial(new_c.get() + u, c, valid);
          store_partial(normed + u, c, valid);
          store_slots(slots, u, valid, s);
        });
        const S scale = normalise(normed, H);
        if (kept.deviation_c) kept.deviation_c[n] = scale;
        for_each_vector(slots, [&](Vec<S>(&s)[kSlots], int64_t u, int valid) {
          math::CellState<Vec<S>> previous{}, state{};
          if (p_.zoneout_h) previous.h = load_sum(recurrence_.h(step, n) + u, valid);
          previous.c = load_partial(recurrence_.c(step, n) + u, valid);
          state.c = load_partial(new_c.get() + u, valid);
          const Vec<S> shown = shown_state(load_partial(normed + u, valid), u, valid);
          state.h = Cell::output(s, state.c, shown, parameters(u, valid).w);
          store_slots(slots, u, valid, s);
          if (p_.weight_hr && kept.cell_h) store_partial(kept.cell_h + n * H + u, state.h, valid);
          const int64_t zone = (recurrence_.row(step) * p_.batch + n) * recurrence_.c_stride() + u;
          finish_cell(previous, state, zone, valid, h_out ? h_out + u : nullptr, c_out ? c_out + u : nullptr);
        });
      }
    }
  }

  void store_slots(S* slots, int64_t unit, int valid, const Vec<S> (&s)[kSlots]) const {
    const int64_t block = unit / Blocks::kBlock;
    for (int i = 0; i < kSlots; ++i) store_partial(slots + blocks.at(block, i) + unit % Blocks::kBlock, s[i], valid);
  }

  // output = W_hr times the cells' h.
  void project_state(Range rows, int64_t step, T* output) const {
    const int64_t R = p_.state_size;
    gemm(rows, Left<T>{cell_h_.get(), p_.hidden_size}, {Product<T>{weight_hr_, projected_.get(), R}});
    for (int64_t n = rows.begin; n < rows.end; ++n) {
      T* const to = output + (recurrence_.row(step) * p_.batch + n) * recurrence_.h_stride();
      if (recurrence_.taken(step, n))
        convert_back(projected_.get() + n * R, R, to);
      else
        std::fill_n(to, R, T{});
    }
  }

  const RecurrentParams<T>& p_;
  const Recurrence<T>& recurrence_;
  const bool few_;                                  // weights are read in place
  const Buffer<int64_t> input_rows_, hidden_rows_;  // [G * H]: GateBlocks::input_rows, and hidden_rows of the phases
  const Packed<T> weight_ih_;
  const Packed<T> weight_hh_[2];  // by phase
  const Packed<T> weight_hr_;
  const Buffer<S> bias_;            // [G * H] in the order of the input projection
  const Buffer<S> candidate_bias_;  // [H]
  const Buffer<T> gated_;           // [N, H]
  const Buffer<T> cell_h_;          // [N, H]: h before its projection
  const Buffer<S> projected_;       // [N, R]
};

}  // namespace seqkern::cpu::SEQKERN_ISA
