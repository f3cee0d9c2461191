// How the blocks of a persistent recurrent kernel hand each other what the next product takes.
//
// GridExchange: through global memory, where an element that is not there yet is all ones, so that the data are their own flags
// and no barrier is needed; blocks of the whole grid run at once. ClusterExchange: through the shared memory of the blocks of a
// cluster, which is all there is of a group of sequences, with one cluster barrier a step.
#pragma once

#include "cuda/recurrent_weights.cuh"
#include "params/recurrent_persistent.h"

namespace seqkern::cuda {

// Elements as they are handed on: no arithmetic yields a NaN of all ones, and none is copied.
SEQKERN_DEVICE uint32_t bits_to_hand_on(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  return x == x ? bits : 0x7FFFFFFFu;
}
template <class T>
SEQKERN_DEVICE uint16_t bits_to_hand_on(T x) {
  return x.bits == 0xFFFF ? uint16_t{0x7FFF} : x.bits;
}

// Whether all elements of 16 bytes are there.
template <class T>
SEQKERN_DEVICE bool all_there(const Words& words) {
  bool there = true;
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 2)
      there = there && (words.at[i] & 0xFFFFu) != 0xFFFFu && words.at[i] < 0xFFFF0000u;
    else
      there = there && words.at[i] != 0xFFFFFFFFu;
  }
  return there;
}

// The sequences that a block takes at once: [first, first + chunk), as far as they are less than end.
struct Chunk {
  int64_t first, end;
  int column_tiles;
};

template <class T>
class GridExchange {
 public:
  static constexpr int kPerVector = kVectorBytes / sizeof(T), kPerSlab = kSlabBytes / sizeof(T);
  static constexpr bool kOfCluster = false;
  static constexpr int64_t shared_bytes(int64_t, int64_t) { return 0; }

  SEQKERN_DEVICE GridExchange(const RecurrentExchange<T>& p, int64_t hidden_size, int64_t head, int64_t, int64_t, unsigned char*)
      : p_(p), hidden_size_(hidden_size), head_(head) {}

  SEQKERN_DEVICE void enter() const {}

  // Slabs `slab` to `slab` + count of an entry's rows, zeros past them; waits until they are there.
  template <int n, int kColumnTiles>
  SEQKERN_DEVICE void read(int64_t entry, const Chunk& chunk, int slab, int count, Words (&x)[n][kColumnTiles]) const {
    const T* const from = (entry == 0 ? p_.first : p_.later + (entry - 1) * p_.entry_size) + head_ * p_.head_size;
    const int64_t size = p_.parts * p_.row_size;
    const bool wait = entry > 0 && !p_.complete;
    spin_until([&]() SEQKERN_INLINE {
      bool there = true;
      unrolled<n * kColumnTiles>([&](auto place) SEQKERN_INLINE {
        constexpr int i = place / kColumnTiles, tile = place % kColumnTiles;
        const int64_t sequence = chunk.first + tile * kTileColumns + lane_index() / 4;
        const int64_t k = static_cast<int64_t>(slab + i) * kPerSlab + lane_index() % 4 * kPerVector;
        const bool inside = i < count && tile < chunk.column_tiles && sequence < chunk.end && k < size;
        x[i][tile] = inside ? load_coherent(from + sequence * p_.sequence_size + k) : Words{};
      });
      unrolled<n * kColumnTiles>(
          [&](auto place) SEQKERN_INLINE { there = there && all_there<T>(x[place / kColumnTiles][place % kColumnTiles]); });
      return all_of_warp(there || !wait);
    });
  }

  SEQKERN_DEVICE void hand_on(int64_t entry, int64_t sequence, int64_t part, int64_t j, Sum<T> value) const {
    if (p_.complete) return;
    T rounded;
    from_sum(value, rounded);
    T* const to =
        p_.later + (entry - 1) * p_.entry_size + sequence * p_.sequence_size + head_ * p_.head_size + part * p_.row_size;
    store(to + j, rounded);
    if (j + 1 == hidden_size_)
      for (int64_t pad = hidden_size_; pad < p_.row_size; ++pad) store(to + pad, T{});
  }

  // All that the block hands on of an entry is handed on.
  SEQKERN_DEVICE void pass(int64_t, int64_t, int64_t) const {}

 private:
  static SEQKERN_DEVICE void store(T* to, T value) {
    const auto bits = bits_to_hand_on(value);
    store_coherent(reinterpret_cast<std::remove_const_t<decltype(bits)>*>(to), bits);
  }

  const RecurrentExchange<T>& p_;
  int64_t hidden_size_, head_;
};

// Two entries, of turns that alternate, of all sequences of the group, in the shared memory of each block of the cluster.
template <class T>
class ClusterExchange {
 public:
  static constexpr int kPerVector = kVectorBytes / sizeof(T), kPerSlab = kSlabBytes / sizeof(T);
  static constexpr bool kOfCluster = true;
  // Rows are spread over the banks.
  static constexpr int64_t row_bytes(int64_t size) {
    return divide_up(size * static_cast<int64_t>(sizeof(T)), 2 * kSlabBytes) * 2 * kSlabBytes + kSlabBytes;
  }
  static constexpr int64_t shared_bytes(int64_t size, int64_t sequences) { return 2 * sequences * row_bytes(size); }

  // units: of a block.
  SEQKERN_DEVICE ClusterExchange(const RecurrentExchange<T>& p, int64_t, int64_t head, int64_t first, int64_t end,
                                 unsigned char* shared)
      : p_(p),
        head_(head),
        first_(first),
        sequences_(end - first),
        shared_(shared),
        row_bytes_(row_bytes(p.parts * p.row_size)) {}

  // Called by all threads: entry 0, zeros elsewhere.
  SEQKERN_DEVICE void enter() const {
    for (int64_t i = thread_index(); i < 2 * sequences_ * row_bytes_ / kVectorBytes; i += block_size())
      reinterpret_cast<Words*>(shared_)[i] = Words{};
    sync_block();
    if (p_.first) {
      const int64_t vectors = p_.parts * p_.row_size / kPerVector;
      for (int64_t i = thread_index(); i < sequences_ * vectors; i += block_size()) {
        const int64_t sequence = i / vectors, k = (i - sequence * vectors) * kPerVector;
        *at(0, sequence, k) = load_coherent(p_.first + (first_ + sequence) * p_.sequence_size + head_ * p_.head_size + k);
      }
    }
    sync_cluster();  // other blocks write here from now on
  }

  template <int n, int kColumnTiles>
  SEQKERN_DEVICE void read(int64_t entry, const Chunk& chunk, int slab, int count, Words (&x)[n][kColumnTiles]) const {
    const int64_t size = p_.parts * p_.row_size;
    unrolled<n * kColumnTiles>([&](auto place) SEQKERN_INLINE {
      constexpr int i = place / kColumnTiles, tile = place % kColumnTiles;
      const int64_t sequence = chunk.first + tile * kTileColumns + lane_index() / 4;
      const int64_t k = static_cast<int64_t>(slab + i) * kPerSlab + lane_index() % 4 * kPerVector;
      const bool inside = i < count && tile < chunk.column_tiles && sequence < chunk.end && k < size;
      x[i][tile] = inside ? *at(entry, sequence - first_, k) : Words{};
    });
    sync_warp();
  }

  SEQKERN_DEVICE void hand_on(int64_t entry, int64_t sequence, int64_t part, int64_t j, Sum<T> value) const {
    from_sum(value, *(reinterpret_cast<T*>(at(entry, sequence - first_, part * p_.row_size)) + j));
  }

  // Called by all threads, once the block has handed on all that is its own of an entry: units [begin, begin + units).
  SEQKERN_DEVICE void pass(int64_t entry, int64_t begin, int64_t units) const {
    sync_block();
    const int64_t rest = p_.row_size - begin, vectors = (rest < units ? rest : units) / kPerVector;
    const int rank = cluster_rank(), blocks = cluster_size();
    for (int64_t i = thread_index(); i < sequences_ * p_.parts * vectors; i += block_size()) {
      const int64_t row = i / vectors, sequence = row / p_.parts, part = row - sequence * p_.parts;
      Words* const own = at(entry, sequence, part * p_.row_size + begin + (i - row * vectors) * kPerVector);
      const Words words = *own;
      for (int other = 1; other < blocks; ++other) *in_block((rank + other) % blocks, own) = words;
    }
    sync_cluster();
  }

 private:
  SEQKERN_DEVICE Words* at(int64_t entry, int64_t sequence, int64_t k) const {
    return reinterpret_cast<Words*>(shared_ + (entry % 2 * sequences_ + sequence) * row_bytes_ +
                                    k * static_cast<int64_t>(sizeof(T)));
  }

  const RecurrentExchange<T>& p_;
  int64_t head_, first_, sequences_;
  unsigned char* shared_;
  int64_t row_bytes_;
};

}  // namespace seqkern::cuda
