// Threads for the CPU kernels: one parallel region per kernel call, with a barrier inside it.
//
// OpenMP supplies the threads, so that inside torch they are the ones torch itself uses (a second pool would fight it for cores).
#pragma once

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

namespace seqkern::cpu {

// A barrier for threads that meet every few microseconds. It spins briefly and then yields: when another process takes one of
// the cores, a pure spin would burn the rest of its time slice.
class Barrier {
 public:
  void wait(int threads) {
    if (threads == 1) return;
    const int phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
      if (spin < kSpins)
        relax();
      else
        sched_yield();
    }
  }

 private:
  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  static constexpr int kSpins = 4000;  // tens of microseconds
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
};

// The part of [0, count) that one of several threads takes.
struct Range {
  int64_t begin, end;
};

// One thread of a team, as the body of a parallel region sees it.
struct Worker {
  int thread, team;
  Barrier& barrier;

  void wait() const { barrier.wait(team); }
  Range part_of(int64_t count) const { return {count * thread / team, count * (thread + 1) / team}; }
};

// Runs body(worker) on `threads` threads at once and waits for all. The team may be smaller than asked for: inside another
// parallel region it is one thread.
template <class Body>
void parallel(int threads, const Body& body) {
  Barrier barrier;
  if (threads <= 1 || omp_in_parallel()) {
    body(Worker{0, 1, barrier});
    return;
  }
#pragma omp parallel num_threads(threads)
  body(Worker{omp_get_thread_num(), omp_get_num_threads(), barrier});
}

}  // namespace seqkern::cpu
