// The recurrent layer on the CPU, forward, for any cell of math/.
//
// The input projection of some steps at a time is a product before their recurrence (RecurrentSteps::project); the recurrence
// then adds a product with W_hh and applies the cell, step by step (RecurrentSteps::run). Threads share a step in one of two
// ways, chosen by size (see Share):
//   - by batch: each thread carries its own sequences through all steps; threads never wait for each other;
//   - by hidden units: each thread owns a part of the units and of W_hh, and all meet at a barrier once a step.
#pragma once

#include "cpu/recurrent_steps.h"

namespace seqkern::cpu::SEQKERN_ISA {

template <class Cell, class T>
class RecurrentForward {
 public:
  using S = Sum<T>;
  static constexpr int kSlots = Cell::kSlots;

  RecurrentForward(const RecurrentForwardParams<T>& params, int threads)
      : p_(params),
        recurrence_(p_, p_.output, p_.cells, p_.c_n),
        steps_(p_, recurrence_, true),
        chunk_(steps_at_once(p_)),
        workspace_(p_.kept ? 0 : chunk_ * p_.batch * kSlots * p_.hidden_size) {
    p_.threads = threads;
  }

  void run(const Worker& worker) const {
    const int64_t N = p_.batch, H = p_.hidden_size;
    const Share share(worker, N, steps_.blocks.count(), Cell::kGates * H * p_.state_size * static_cast<int64_t>(sizeof(T)),
                      p_.norm_hh || p_.norm_c);
    const StepOutputs<T> out{p_.output, p_.cells, p_.cells ? nullptr : p_.c_n};
    steps_.pack(worker);
    worker.wait();
    for (int64_t first = 0; first < p_.steps; first += chunk_) {
      const int64_t count = std::min(chunk_, p_.steps - first);
      const int64_t first_row = p_.reverse ? p_.steps - first - count : first;  // first row in memory of the chunk
      S* const slots = p_.kept ? p_.kept + first_row * N * kSlots * H : workspace_.get();
      steps_.project(worker, count * N, first_row * N, slots);
      worker.wait();
      for (int64_t step = first; step < first + count; ++step) {
        const int64_t row = recurrence_.row(step);
        Kept<Cell, T> kept = p_.kept ? Kept<Cell, T>(p_, p_.kept, p_.steps * N).from(row * N, H) : Kept<Cell, T>{};
        kept.for_backward = p_.kept;
        if (!p_.kept) kept.slots = slots + (row - first_row) * N * kSlots * H;
        steps_.run(worker, share, step, kept, out);
        share.wait(worker);
      }
      if (!p_.kept && share.by_batch && first + count < p_.steps) worker.wait();  // the workspace is about to be overwritten
    }
    if (share.by_batch) worker.wait();
    const Range sequences = worker.part_of(N);
    for (int64_t n = sequences.begin; n < sequences.end; ++n) {
      std::copy_n(recurrence_.last_h(n), p_.state_size, p_.h_n + n * recurrence_.h_stride());
      if (!Cell::kHasCell) continue;
      const S* const from = recurrence_.last_c(n);
      S* const to = p_.c_n + n * recurrence_.c_stride();
      if (from != to) std::copy_n(from, H, to);
    }
  }

 private:
  // Steps whose gates are projected together: enough rows for an efficient product, which reads W_ih whole for a block of them,
  // and few enough to stay in cache.
  static int64_t steps_at_once(const RecurrentParams<T>& p) {
    const int64_t step_bytes = std::max<int64_t>(1, p.batch * kSlots * p.hidden_size * static_cast<int64_t>(sizeof(S)));
    const int64_t few = std::max((int64_t{1} << 20) / step_bytes, 2 * kRowsInBlock / std::max<int64_t>(1, p.batch));
    return std::clamp<int64_t>(few, 1, std::max<int64_t>(1, p.steps));
  }

  RecurrentForwardParams<T> p_;
  const Recurrence<T> recurrence_;
  const RecurrentSteps<Cell, T> steps_;
  const int64_t chunk_;
  const Buffer<S> workspace_;  // [chunk * N, kSlots * H]: slots of a chunk, where they are not kept
};

template <class Cell, class T>
void recurrent_forward(const RecurrentForwardParams<T>& p) {
  for_each_head<RecurrentForward<Cell, T>>(p, [](RecurrentForwardParams<T> head, int64_t k) {
    const int64_t H = head.hidden_size, R = head.state_size;
    if (head.kept) head.kept += k * head.steps * head.batch * Kept<Cell, T>::size(head);
    move_to_head(head, k, Cell::kGates);
    head.output += k * R;
    head.h_n += k * R;
    if (head.c_n) head.c_n += k * H;
    if (head.cells) head.cells += k * H;
    return head;
  });
}

}  // namespace seqkern::cpu::SEQKERN_ISA
