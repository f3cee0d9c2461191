// What the persistent recurrent kernels stand on: weights that stay on the chip, and the exchange of what products take.
//
// One launch runs all steps. A block owns some hidden units of a head and keeps the rows of W_hh (forward) or W_hh^T (backward)
// that these need, in registers and shared memory, as the matrix units take them. A step of a block is
//
//   read the exchanged row of each sequence -> multiply -> sum over the warps, which share the depth k of the product among them
//   -> a thread a unit and sequence: apply the cell, hand the result on to the other blocks.
//
// Blocks hand results on in one of two ways. GridExchange: through global memory, where an element that is not there yet is all
// ones, so that the data are their own flags and no barrier is needed; blocks of the whole grid run at once. ClusterExchange:
// through the shared memory of the blocks of a cluster, which is all there is of a group, with one cluster barrier a step.
#pragma once

#include <type_traits>

#include "cuda/recurrent.cuh"
#include "cuda/recurrent_plan.h"
#include "params/recurrent_persistent.h"

namespace seqkern::cuda {

constexpr int kTileRows = 16, kTileColumns = 8;  // of a matrix-unit product; sequences lie along its columns
constexpr int kSlabBytes = 64;                   // of k, which two matrix-unit products take
constexpr int kPersistentThreads = 256, kWarps = kPersistentThreads / kWarpSize;

// Sequences that are taken at once, at most: a thread for each of them and unit.
template <int kUnits>
constexpr int kColumnTiles = kUnits > 16 ? 1 : 2;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// body(i) for i from 0 to n - 1, known to the compiler: arrays of registers must not be indexed by anything else.
template <int n, class Body>
SEQKERN_DEVICE void unrolled(const Body& body) {
  if constexpr (n > 0) {
    unrolled<n - 1>(body);
    body(std::integral_constant<int, n - 1>());
  }
}

// --- products ---

template <class T>
SEQKERN_DEVICE uint32_t word_of(const T (&x)[4 / sizeof(T)]) {
  uint32_t word;
  memcpy(&word, x, sizeof(word));
  return word;
}

// A float32 number rounded to TF32 (and 0 in place of an infinity), and what the rounding took.
struct Tf32Parts {
  uint32_t big, finite, rest;

  Tf32Parts() = default;
  SEQKERN_DEVICE explicit Tf32Parts(uint32_t bits) : big(round_to_tf32(value(bits))) {
    constexpr uint32_t kInfinity = 0x7F800000u;
    const bool is_infinite = (bits & 0x7FFFFFFFu) == kInfinity;
    finite = is_infinite ? 0 : big;
    rest = is_infinite ? 0 : round_to_tf32(value(bits) - value(big));
  }

 private:
  static SEQKERN_DEVICE float value(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
  }
};

// d += a slab of 16 rows (row g = lane / 4 in `upper`, row g + 8 in `lower`) times a slab of 8 columns (column g in x). A lane
// has the vectors lane % 4 of its rows: which k they are does not matter, as long as they are the same.
template <class T>
SEQKERN_DEVICE void multiply_slab(float (&d)[4], const Words& upper, const Words& lower, const Words& x, bool exact) {
  for (int i = 0; i < 4; i += 2) {
    const uint32_t a[4] = {upper.at[i], lower.at[i], upper.at[i + 1], lower.at[i + 1]};
    const uint32_t b[2] = {x.at[i], x.at[i + 1]};
    if constexpr (sizeof(T) == 2) {
      multiply_add(T(), d, a, b);
    } else {
      // A float32 number is the sum of two TF32 numbers but for 2 or 3 of its last bits. Infinities are in the first product
      // alone.
      Tf32Parts a_parts[4], b_parts[2];
      for (int j = 0; j < 4; ++j) a_parts[j] = Tf32Parts(a[j]);
      for (int j = 0; j < 2; ++j) b_parts[j] = Tf32Parts(b[j]);
      const auto multiply = [&](auto part_of_a, auto part_of_b) SEQKERN_INLINE {
        uint32_t x[4], y[2];
        for (int j = 0; j < 4; ++j) x[j] = a_parts[j].*part_of_a;
        for (int j = 0; j < 2; ++j) y[j] = b_parts[j].*part_of_b;
        multiply_add(Tf32(), d, x, y);
      };
      if (exact) {
        multiply(&Tf32Parts::rest, &Tf32Parts::finite);
        multiply(&Tf32Parts::finite, &Tf32Parts::rest);
      }
      multiply(&Tf32Parts::big, &Tf32Parts::big);
    }
  }
}

// Matrix rows of a block, [kRowGroups * kTiles * 16, size]. A warp has kTiles * 16 of the rows, and its part of the depth. A
// thread keeps up to kFixedWords of them in registers, the rest is in shared memory.
template <class T, int kTiles, int kRowGroups, int kColumnTiles, int kFixedWords>
class Weights {
 public:
  static constexpr int kPerVector = kVectorBytes / sizeof(T), kPerSlab = kSlabBytes / sizeof(T), kTilesOfWarp = kTiles;
  static constexpr int kDepthParts = kWarps / kRowGroups, kRows = kRowGroups * kTiles * kTileRows;
  // Slabs of a warp in registers, and those that are read together.
  static constexpr int kFixed = kFixedWords / (kTiles * 8);
  static constexpr int kTogether = kFixed == 0 ? 2 : kFixed % 4 == 0 ? 4 : kFixed % 3 == 0 ? 3 : kFixed % 2 == 0 ? 2 : 1;

  static constexpr int64_t slabs_of_warp(int64_t size) { return divide_up(divide_up(size, kPerSlab), kDepthParts); }
  static constexpr int64_t shared_bytes(int64_t size) {
    const int64_t others = slabs_of_warp(size) - kFixed;
    return others > 0 ? others * kWarps * kTiles * 2 * kWarpSize * static_cast<int64_t>(sizeof(Words)) : 0;
  }

  // element(row, k) is called for k < size.
  template <class Element>
  SEQKERN_DEVICE Weights(int64_t size, unsigned char* shared, const Element& element) {
    const auto slabs = static_cast<int>(slabs_of_warp(size)), all = static_cast<int>(divide_up(size, kPerSlab));
    first_ = depth_part() * slabs;
    count_ = all - first_ < slabs ? (all > first_ ? all - first_ : 0) : slabs;
    const int others = slabs > kFixed ? slabs - kFixed : 0;
    others_ = reinterpret_cast<Words*>(shared) + warp_index() * others * kTiles * 2 * kWarpSize + lane_index();
    const auto vector = [&](int slab, int tile, int half) {
      const int64_t row = first_row() + tile * kTileRows + half * (kTileRows / 2) + lane_index() / 4;
      const int64_t k = static_cast<int64_t>(first_ + slab) * kPerSlab + lane_index() % 4 * kPerVector;
      Words words;
      for (int i = 0; i < 4; ++i) {
        T of_word[4 / sizeof(T)] = {};
        for (int e = 0; e < static_cast<int>(4 / sizeof(T)); ++e) {
          const int64_t at = k + i * static_cast<int64_t>(4 / sizeof(T)) + e;
          if (slab < count_ && at < size) of_word[e] = element(row, at);
        }
        words.at[i] = word_of(of_word);
      }
      return words;
    };
    unrolled<kFixed * kTiles * 2>([&](auto i) SEQKERN_INLINE {
      constexpr int slab = i / (2 * kTiles), tile = i / 2 % kTiles, half = i % 2;
      fixed_[slab][tile][half] = vector(slab, tile, half);
    });
    SEQKERN_UNROLL(1)
    for (int slab = kFixed; slab < slabs; ++slab)
      for (int tile = 0; tile < kTiles; ++tile)
        for (int half = 0; half < 2; ++half) other(slab, tile, half) = vector(slab, tile, half);
  }

  // The warp's part of the depth, and its first row.
  static SEQKERN_DEVICE int depth_part() { return warp_index() / kRowGroups; }
  static SEQKERN_DEVICE int first_row() { return warp_index() % kRowGroups * kTiles * kTileRows; }

  using Group = Words[kTogether][kColumnTiles];
  using Sums = float[kTiles][kColumnTiles][4];
  static constexpr int kColumns = kColumnTiles;

  // sums += this warp's part of the product with the columns that read(slab, count, group) gives, slab by slab.
  template <class Read>
  SEQKERN_DEVICE void multiply(Sums& sums, int column_tiles, bool exact, const Read& read) const {
    Group x;
    unrolled<kFixed / kTogether>([&](auto turn) SEQKERN_INLINE {
      constexpr int slab = turn * kTogether;
      if (slab < count_) {
        read(first_ + slab, count_ - slab, x);
        unrolled<kTogether>([&](auto i) SEQKERN_INLINE {
          multiply_tiles(sums, column_tiles, exact, x[i],
                         [&](int tile, int half) SEQKERN_INLINE { return fixed_[slab + i][tile][half]; });
        });
      }
    });
    SEQKERN_UNROLL(1)
    for (int slab = kFixed; slab < count_; slab += kTogether) {
      read(first_ + slab, count_ - slab, x);
      unrolled<kTogether>([&](auto i) SEQKERN_INLINE {
        if (slab + i < count_)
          multiply_tiles(sums, column_tiles, exact, x[i],
                         [&](int tile, int half) SEQKERN_INLINE { return other(slab + i, tile, half); });
      });
    }
  }

 private:
  template <class Tile>
  static SEQKERN_DEVICE void multiply_tiles(Sums& sums, int column_tiles, bool exact, const Words (&x)[kColumnTiles],
                                            const Tile& tiles) {
    unrolled<kTiles>([&](auto tile) SEQKERN_INLINE {
      const Words upper = tiles(tile, 0), lower = tiles(tile, 1);
      unrolled<kColumnTiles>([&](auto n) SEQKERN_INLINE {
        if (n < column_tiles) multiply_slab<T>(sums[tile][n], upper, lower, x[n], exact);
      });
    });
  }

  SEQKERN_DEVICE Words& other(int slab, int tile, int half) const {
    return others_[(((slab - kFixed) * kTiles + tile) * 2 + half) * kWarpSize];
  }

  int first_, count_;  // slabs of this warp
  Words fixed_[kFixed > 0 ? kFixed : 1][kTiles][2];
  Words* others_;  // [slabs - kFixed, kTiles, 2, lanes]
};

// The sums of the warps, in shared memory: [depth parts, rows, chunk].
class Partials {
 public:
  static constexpr int64_t stride(int64_t chunk) { return chunk + chunk / 2; }  // spreads rows over the banks
  static constexpr int64_t bytes(int64_t rows, int64_t chunk) {
    return rows * stride(chunk) * static_cast<int64_t>(sizeof(float));
  }

  SEQKERN_DEVICE Partials(unsigned char* shared, int64_t chunk)
      : at_(reinterpret_cast<float*>(shared)),
        stride_(static_cast<int>(stride(chunk))),
        column_tiles_(static_cast<int>(chunk) / kTileColumns) {}

  // Called by all threads of the block; then all may take sums.
  template <class Weights>
  SEQKERN_DEVICE void put(const typename Weights::Sums& sums) const {
    sync_block();  // whoever still takes earlier sums is done
    const int row = Weights::depth_part() * Weights::kRows + Weights::first_row() + lane_index() / 4;
    float* const own = at_ + row * stride_ + lane_index() % 4 * 2;
    unrolled<Weights::kTilesOfWarp * Weights::kColumns>([&](auto i) SEQKERN_INLINE {
      constexpr int tile = i / Weights::kColumns, n = i % Weights::kColumns;
      if (n >= column_tiles_) return;
      unrolled<2>([&](auto half) SEQKERN_INLINE {
        float* const to = own + (tile * kTileRows + half * 8) * stride_ + n * kTileColumns;
        to[0] = sums[tile][n][2 * half];
        to[1] = sums[tile][n][2 * half + 1];
      });
    });
    sync_block();
  }

  template <class Weights>
  SEQKERN_DEVICE float take(int row, int column) const {
    float sum = 0;
    for (int part = 0; part < Weights::kDepthParts; ++part) sum += at_[(part * Weights::kRows + row) * stride_ + column];
    return sum;
  }

 private:
  float* at_;
  int stride_, column_tiles_;
};

// --- exchange ---

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

// --- the work of a block, and of a thread ---

template <int kUnits>
struct Place {
  int64_t head, first_unit;
  int64_t first, end;  // sequences of the group

  SEQKERN_DEVICE Place(const RecurrentStepParams& p, const RecurrentTiling& tiling) {
    const int64_t group = block_index_y() % tiling.groups;
    head = block_index_y() / tiling.groups;
    first_unit = block_index() * kUnits;
    first = group * tiling.per_group < p.batch ? group * tiling.per_group : p.batch;
    end = first + tiling.per_group < p.batch ? first + tiling.per_group : p.batch;
  }

  // Calls body(chunk, row, j) for the group's chunks; row and j are this thread's sequence and unit, j < 0 if it has none.
  template <class Body>
  SEQKERN_DEVICE void for_each_chunk(const RecurrentStepParams& p, const RecurrentTiling& tiling, const Body& body) const {
    for (int64_t n = first; n < end; n += tiling.chunk) {
      const int64_t sequence = n + thread_index() / kUnits, j = first_unit + thread_index() % kUnits;
      const bool any = thread_index() / kUnits < tiling.chunk && sequence < end && j < p.hidden_size;
      const int64_t of_row = any ? sequence : first;
      const Row row{of_row * p.heads + head, head * p.batch + of_row, of_row, head};
      body(Chunk{n, end, static_cast<int>(tiling.chunk) / kTileColumns}, row, any ? j : -1);
    }
  }
};

// Words of weights that a thread's other registers leave room for.
template <class Cell, class T>
constexpr int kFixedWords = (sizeof(T) == 4                                         ? 16
                             : Cell::kParameters > 0 || Cell::kSlots > Cell::kGates ? 48
                                                                                    : 64) /
                            (kGated<Cell> ? 4 : 1);

// Of a block's units, for so many gates. Many rows are shared out among the warps besides.
template <int kUnits>
constexpr int kRowGroups = kUnits > 16 ? kUnits / 16 : 1;
template <class T, int kUnits, int kGates, int kFixedWords>
using WeightsOf = Weights<T, (kGates * kUnits / kRowGroups<kUnits> + kTileRows - 1) / kTileRows, kRowGroups<kUnits>,
                          kColumnTiles<kUnits>, kFixedWords>;

// In the place of what a cell without a gated candidate does not need.
struct Nothing {
  template <class... Arguments>
  SEQKERN_DEVICE explicit Nothing(const Arguments&...) {}
  static constexpr int64_t shared_bytes(int64_t) { return 0; }
};

// What a block of a persistent kernel has: its weights, and its side of the exchanges. CandidateWeights: Nothing, unless the
// candidate is gated.
template <class T, int kUnits, template <class> class ExchangeOf, class Weights, class CandidateWeights>
struct PersistentBlock {
  static constexpr bool kGated = !std::is_same_v<CandidateWeights, Nothing>;
  using Exchange = ExchangeOf<T>;
  using GatedExchange = std::conditional_t<kGated, Exchange, Nothing>;

  // Where the parts of its shared memory begin, and its size; rows: elements of the exchanges' rows.
  struct Shared {
    int64_t candidate_weights, partials, exchange, gated_exchange, bytes;
  };
  static SEQKERN_HD Shared shared(const RecurrentTiling& tiling, int64_t row, int64_t gated_row) {
    Shared at{};
    at.candidate_weights = Weights::shared_bytes(row);
    at.partials = at.candidate_weights + CandidateWeights::shared_bytes(gated_row);
    at.exchange = at.partials + Partials::bytes(Weights::kDepthParts * Weights::kRows, tiling.chunk);
    at.gated_exchange = at.exchange + Exchange::shared_bytes(row, tiling.per_group);
    at.bytes = at.gated_exchange + (kGated ? Exchange::shared_bytes(gated_row, tiling.per_group) : 0);
    return at;
  }

  const RecurrentTiling& tiling;
  const Place<kUnits> place;
  const Shared at;
  const Weights weights;
  const CandidateWeights candidate_weights;
  const Partials partials;
  const Exchange exchange;
  const GatedExchange gated_exchange;

  // element(place, row, k) and candidate_element(place, row, k) of the weights.
  template <class Params, class Element, class CandidateElement>
  SEQKERN_DEVICE PersistentBlock(const Params& p, int64_t row, int64_t gated_row, const Element& element,
                                 const CandidateElement& candidate_element)
      : tiling(p.tiling),
        place(p, p.tiling),
        at(shared(p.tiling, row, gated_row)),
        weights(row, dynamic_shared(), [&](int64_t r, int64_t k) { return element(place, r, k); }),
        candidate_weights(gated_row, dynamic_shared() + at.candidate_weights,
                          [&](int64_t r, int64_t k) { return candidate_element(place, r, k); }),
        partials(dynamic_shared() + at.partials, p.tiling.chunk),
        exchange(p.exchange, p.hidden_size, place.head, place.first, place.end, dynamic_shared() + at.exchange),
        gated_exchange(p.gated_exchange, p.hidden_size, place.head, place.first, place.end,
                       dynamic_shared() + at.gated_exchange) {
    exchange.enter();
    if constexpr (kGated) gated_exchange.enter();
  }

  // Called by all threads: multiplies an entry's rows; then product(row) is that of a row of weights and the thread's sequence.
  SEQKERN_DEVICE void multiply(int64_t entry, const Chunk& chunk) const { multiply(weights, exchange, entry, chunk); }
  SEQKERN_DEVICE void multiply_candidate(int64_t entry, const Chunk& chunk) const {
    multiply(candidate_weights, gated_exchange, entry, chunk);
  }
  // The product of row r of a gate (or of what a unit gave), for the thread's unit and sequence.
  SEQKERN_DEVICE float product(int gate = 0) const { return partials.take<Weights>(gate * kUnits + unit(), sequence()); }
  SEQKERN_DEVICE float candidate_product() const { return partials.take<CandidateWeights>(unit(), sequence()); }

  // Called by all threads, once the block has handed on all that is its own of an entry.
  SEQKERN_DEVICE void pass(int64_t entry) const { exchange.pass(entry, place.first_unit, kUnits); }
  SEQKERN_DEVICE void pass_gated(int64_t entry) const { gated_exchange.pass(entry, place.first_unit, kUnits); }

 private:
  static SEQKERN_DEVICE int unit() { return static_cast<int>(thread_index() % kUnits); }
  static SEQKERN_DEVICE int sequence() { return static_cast<int>(thread_index() / kUnits); }

  template <class W, class From>
  SEQKERN_DEVICE void multiply(const W& by, const From& from, int64_t entry, const Chunk& chunk) const {
    typename W::Sums sums{};
    by.multiply(sums, chunk.column_tiles, tiling.exact,
                [&](int slab, int count, auto& x) SEQKERN_INLINE { from.read(entry, chunk, slab, count, x); });
    partials.put<W>(sums);
  }
};

// --- launches ---

template <class Params>
cudaError_t launch_persistent(void (*kernel)(Params), int64_t shared_bytes, const RecurrentPlan& plan, const Params& p,
                              cudaStream_t stream, bool* fits) {
  const int64_t blocks = blocks_of(plan, p.hidden_size);
  Launch how{{blocks, p.heads * plan.groups}, kPersistentThreads, stream, static_cast<size_t>(shared_bytes)};
  how.cooperative = plan.kernel == RecurrentKernel::grid;
  how.cluster = plan.kernel == RecurrentKernel::cluster ? static_cast<int>(blocks) : 1;
  if (!fits) return launch(kernel, how, p);
  constexpr int kMaxCluster = 16;
  *fits = false;
  if (how.cluster > kMaxCluster) return cudaSuccess;
  int64_t resident = 0;
  const cudaError_t error = resident_blocks(kernel, how, resident);
  *fits = resident >= (how.cooperative ? how.grid.x * how.grid.y : blocks);
  return error;
}

// Launcher<Cell, T, units, Exchange>::launch with those of the cell and plan.
template <class T, template <class, class, int, template <class> class> class Launcher, class Params>
cudaError_t launch_by_plan(int cell, const RecurrentPlan& plan, const Params& p, cudaStream_t stream, bool* fits) {
  return for_cell(cell, [&](auto tag) {
    using Cell = decltype(tag);
    const bool grid = plan.kernel == RecurrentKernel::grid;
    if (grid && plan.units == 8) return Launcher<Cell, T, 8, GridExchange>::launch(plan, p, stream, fits);
    if (grid && plan.units == 16) return Launcher<Cell, T, 16, GridExchange>::launch(plan, p, stream, fits);
    if (!grid && plan.units == 16) return Launcher<Cell, T, 16, ClusterExchange>::launch(plan, p, stream, fits);
    if (!grid && plan.units == 32) return Launcher<Cell, T, 32, ClusterExchange>::launch(plan, p, stream, fits);
    return cudaErrorInvalidValue;
  });
}

}  // namespace seqkern::cuda
