// Products with weights that stay on the chip for all steps, in registers and shared memory, laid out as the matrix units take
// them.
//
// The warps of a block share the depth k of a product among them, and each reads its part of the other factor straight into
// registers; their sums come together in shared memory.
#pragma once

#include <type_traits>

#include "cuda/device.cuh"

namespace seqkern::cuda {

constexpr int kTileRows = 16, kTileColumns = 8;  // of a matrix-unit product; sequences lie along its columns
constexpr int kSlabBytes = 64;                   // of k, which two matrix-unit products take
constexpr int kPersistentThreads = 256, kWarps = kPersistentThreads / kWarpSize;  // of a block

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// body(i) for i from 0 to n - 1, known to the compiler: arrays of registers must not be indexed by anything else.
template <int n, class Body>
SEQKERN_DEVICE void unrolled(const Body& body) {
  if constexpr (n > 0) {
    unrolled<n - 1>(body);
    body(std::integral_constant<int, n - 1>());
  }
}

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

}  // namespace seqkern::cuda
