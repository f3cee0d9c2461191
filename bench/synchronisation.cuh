// Kernels that hand words from block to block, step after step, and do nothing else: in each way that there is, what a step of a
// persistent recurrent kernel cannot fall below.
//
// In a step, every block writes its piece of an array, waits until all pieces are there, and reads the array. What a thread
// writes follows from all that it has read, so that a word that is lost, late or of another step spoils every later one
// (expected_sums). An array of no words leaves the waiting alone. There are two arrays, for even and odd steps: nobody writes a
// step's array before all have read that of two steps ago.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/device.cuh"
#include "math/host_device.h"

namespace seqkern::cuda {

enum class Way {
  grid_barrier,    // the barrier of cooperative launches
  atomic_barrier,  // a counter in global memory that every block adds to and polls
  polled,          // no barrier: a bit of every word tells its step, and readers poll the array
  cluster,         // the shared memory of the blocks of a cluster, and its barrier
};

struct ExchangeParams {
  int64_t steps;
  int64_t vectors;  // 16 bytes each, of an array; polled: at least one a block
  uint32_t* words;  // [2, vectors, 4] zeros, aligned to 16 bytes; a cluster has them in shared memory
  int* arrived;     // [4] zeros, aligned to 16 bytes
  uint32_t* sums;   // [blocks, threads] of all words that a thread has read
};

constexpr int kExchangeThreads = 256;
constexpr int kWordsOfVector = kVectorBytes / sizeof(uint32_t);

// The vectors that a block writes: [begin, end).
struct Piece {
  int64_t begin, end;
};
SEQKERN_HD Piece piece_of(int64_t vectors, int64_t block, int64_t blocks) {
  return {vectors * block / blocks, vectors * (block + 1) / blocks};
}

// 1 and 0 by turns, in the words of an array, which is used in every other step; it begins as zeros.
SEQKERN_HD uint32_t mark_of(int64_t step) { return (static_cast<uint32_t>(step / 2) + 1) & 1; }
SEQKERN_HD uint32_t word_of(uint32_t sum, int64_t i, int64_t step) {
  return ((sum * 1664525u + static_cast<uint32_t>(i) * 1013904223u + 12345u) & ~1u) | mark_of(step);
}

// What the threads of any block have read in the end.
inline std::vector<uint32_t> expected_sums(int64_t vectors, int64_t blocks, int64_t steps, int64_t threads) {
  std::vector<uint32_t> sums(static_cast<size_t>(threads)), words(static_cast<size_t>(vectors * kWordsOfVector));
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t block = 0; block < blocks; ++block) {
      const Piece own = piece_of(vectors, block, blocks);
      const int64_t first = own.begin * kWordsOfVector;
      for (int64_t i = first; i < own.end * kWordsOfVector; ++i)
        words[static_cast<size_t>(i)] = word_of(sums[static_cast<size_t>((i - first) % threads)], i, step);
    }
    for (int64_t i = 0; i < vectors * kWordsOfVector; ++i)
      sums[static_cast<size_t>(i / kWordsOfVector % threads)] += words[static_cast<size_t>(i)];
  }
  return sums;
}

// --- ways ---

// Orders a thread's accesses to memory before and after, for all blocks. (The host executor has no weak memory order.)
SEQKERN_DEVICE void fence() {
#ifdef __CUDA_ARCH__
  __threadfence();
#endif
}

// Through global memory.
template <Way way>
struct ThroughMemory {
  static constexpr bool kPolls = way == Way::polled;
  const ExchangeParams& p;

  SEQKERN_DEVICE int64_t block() const { return block_index(); }
  SEQKERN_DEVICE int64_t blocks() const { return block_count(); }
  SEQKERN_DEVICE void enter() const {}
  SEQKERN_DEVICE void write(int64_t i, uint32_t word) const { store_coherent(p.words + i, word); }
  SEQKERN_DEVICE Words read(int64_t vector) const { return load_coherent(p.words + vector * kWordsOfVector); }
  SEQKERN_DEVICE bool is_there(const Words& words, int64_t step) const {
    if constexpr (!kPolls) return true;
    const uint32_t mark = mark_of(step);
    bool there = true;
    for (const uint32_t word : words.at) there = there && (word & 1) == mark;
    return there;
  }
  // Called by all threads, once the block has written its piece.
  SEQKERN_DEVICE void pass(int64_t step, int64_t, const Piece&) const {
    if constexpr (way == Way::grid_barrier) sync_grid();
    if constexpr (way == Way::atomic_barrier) {
      sync_block();
      if (thread_index() == 0) {
        fence();
        atomic_add(p.arrived, 1);
        const int64_t all = (step + 1) * blocks();
        spin_until([&]() SEQKERN_INLINE { return static_cast<int64_t>(load_coherent(p.arrived).at[0]) >= all; });
        fence();
      }
      sync_block();
    }
  }
  // Called by all threads, once the block has read a step's array.
  SEQKERN_DEVICE void leave() const {
    if constexpr (kPolls) sync_block();
  }
};

// Through the shared memory of a cluster's blocks, each of which has both arrays.
struct ThroughCluster {
  static constexpr bool kPolls = false;
  const ExchangeParams& p;

  SEQKERN_DEVICE int64_t block() const { return cluster_rank(); }
  SEQKERN_DEVICE int64_t blocks() const { return cluster_size(); }
  SEQKERN_DEVICE void enter() const { sync_cluster(); }  // every block runs
  SEQKERN_DEVICE void write(int64_t i, uint32_t word) const { reinterpret_cast<uint32_t*>(dynamic_shared())[i] = word; }
  SEQKERN_DEVICE Words read(int64_t vector) const { return *at(vector); }
  SEQKERN_DEVICE bool is_there(const Words&, int64_t) const { return true; }
  SEQKERN_DEVICE void pass(int64_t, int64_t first, const Piece& own) const {
    if (p.vectors > 0) {
      sync_block();
      const auto rank = static_cast<int>(block()), count = static_cast<int>(blocks());
      for (int64_t i = own.begin + thread_index(); i < own.end; i += block_size()) {
        const Words words = *at(first + i);
        for (int other = 1; other < count; ++other) *in_block((rank + other) % count, at(first + i)) = words;
      }
    }
    sync_cluster();
  }
  SEQKERN_DEVICE void leave() const {}

 private:
  static SEQKERN_DEVICE Words* at(int64_t vector) { return reinterpret_cast<Words*>(dynamic_shared()) + vector; }
};

// --- the kernel ---

template <class Through>
SEQKERN_KERNEL(kExchangeThreads, 1)
exchange_words(ExchangeParams p) {
  constexpr int kAtOnce = 8;  // vectors that a thread has under way
  const Through way{p};
  const Piece own = piece_of(p.vectors, way.block(), way.blocks());
  uint32_t sum = 0;
  way.enter();
  for (int64_t step = 0; step < p.steps; ++step) {
    const int64_t array = step % 2 * p.vectors;
    for (int64_t i = own.begin * kWordsOfVector + thread_index(); i < own.end * kWordsOfVector; i += block_size())
      way.write(array * kWordsOfVector + i, word_of(sum, i, step));
    way.pass(step, array, own);
    for (int64_t first = 0; first < p.vectors; first += kAtOnce * block_size()) {
      Words found[kAtOnce];
      spin_until([&]() SEQKERN_INLINE {
        bool there = true;
        for (int k = 0; k < kAtOnce; ++k) {
          const int64_t vector = first + k * block_size() + thread_index();
          found[k] = vector < p.vectors ? way.read(array + vector) : Words{};
        }
        for (int k = 0; k < kAtOnce; ++k) {
          const int64_t vector = first + k * block_size() + thread_index();
          there = there && (vector >= p.vectors || way.is_there(found[k], step));
        }
        return !Through::kPolls || all_of_warp(there);
      });
      for (const Words& words : found) sum += words.at[0] + words.at[1] + words.at[2] + words.at[3];
    }
    way.leave();
  }
  p.sums[block_index() * block_size() + thread_index()] = sum;
}

// --- launches ---

// Blocks: a multiple of `cluster`, which is 1 but for Way::cluster.
inline Launch exchange_launch(Way way, int64_t blocks, int cluster, int64_t vectors, int threads, cudaStream_t stream) {
  Launch how{{blocks, 1}, threads, stream};
  how.cooperative = way != Way::cluster;
  if (way == Way::cluster) {
    how.cluster = cluster;
    how.shared_bytes = static_cast<size_t>(2 * vectors * kVectorBytes);
  }
  return how;
}

// body(kernel) with that of a way.
template <class Body>
cudaError_t with_exchange_kernel(Way way, const Body& body) {
  switch (way) {
    case Way::grid_barrier:
      return body(exchange_words<ThroughMemory<Way::grid_barrier>>);
    case Way::atomic_barrier:
      return body(exchange_words<ThroughMemory<Way::atomic_barrier>>);
    case Way::polled:
      return body(exchange_words<ThroughMemory<Way::polled>>);
    case Way::cluster:
      return body(exchange_words<ThroughCluster>);
  }
  return cudaErrorInvalidValue;
}

}  // namespace seqkern::cuda
