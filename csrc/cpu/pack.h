// The right-hand side B [K, N] of a product, packed once into panels of columns for the tiles of gemm.h.
//
// Within a panel the K rows lie one after the other, padded with zeros to whole vectors, so that the inner loop streams them.
// Rows of bfloat16 values lie in pairs, for the dot product of pairs.
#pragma once

#include <algorithm>

#include "cpu/buffer.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace seqkern::cpu::SEQKERN_ISA {

using math::Sum;

// The most vectors of columns in a panel, and of sums in a tile: 6 x 4 sums, 4 vectors of B and one broadcast fill the 32
// registers of AVX-512 and NEON, 6 x 2 the 16 of AVX2 and SSE.
#if SEQKERN_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kPanelVectors = 4, kTileSums = 24;
#else
constexpr int kPanelVectors = 2, kTileSums = 12;
#endif

// Rows of a tile: narrower panels leave room for more.
constexpr int kMostTileRows = 12;
constexpr int tile_rows(int64_t vectors) { return std::min(kMostTileRows, kTileSums / static_cast<int>(vectors)); }

template <class T>
int64_t round_to_lanes(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// An element of a panel holds kPackedRows values of one column, from as many rows.
template <class T>
using PackedElement = std::conditional_t<std::is_same_v<T, math::BFloat16>, Pair, T>;
template <class T>
constexpr int kPackedRows = sizeof(PackedElement<T>) / sizeof(T);

// Vectors of a panel for products with `rows` rows, where a wide one has so many. Of the tiles of a panel the first waits for the
// weight, if that does not stay in the caches; the others find it there. Narrow panels have fewer and higher tiles, so that
// what the first one computes takes as long as its share of the weight.
template <class T>
int64_t panel_vectors(int64_t wide, int64_t rows) {
  const bool narrow = kPackedRows<T> == 1 && wide % 2 == 0 && rows > tile_rows(wide) && rows <= 64;
  return narrow ? 2 : wide;
}

// Panels have `panel` columns, a multiple of the lanes of sums; the last has what is left.
template <class T>
struct Packed {
  using Element = PackedElement<T>;

  int64_t depth;    // K
  int64_t columns;  // N
  int64_t panel;
  Buffer<Element> data;

  Packed(int64_t depth, int64_t columns, int64_t panel = kPanelVectors * kLanes<Sum<T>>)
      : depth(depth), columns(columns), panel(panel), data(rows(depth) * round_to_lanes<Sum<T>>(columns)) {}

  int64_t panels() const { return (columns + panel - 1) / panel; }
  int64_t width(int64_t p) const { return std::min(panel, columns - p * panel); }
  // Row k of panel p; k is a multiple of kPackedRows.
  Element* at(int64_t p, int64_t k = 0) const {
    return data.get() + p * panel * rows(depth) + rows(k) * round_to_lanes<Sum<T>>(width(p));
  }

 private:
  static int64_t rows(int64_t k) { return (k + kPackedRows<T> - 1) / kPackedRows<T>; }
};

// Packs rows [k_begin, k_end) of B from row_of(k), a pointer to the N values of row k, of T or a type that is summed in T. Rows
// that share elements belong to the range of the first of them, so that the range of another thread may begin anywhere; two rows
// are then in use at a time.
template <class T, class RowOf>
void pack_rows(const Packed<T>& packed, Range depth, const RowOf& row_of) {
  constexpr int lanes = kLanes<Sum<T>>, step = kPackedRows<T>;
  const int64_t begin = (depth.begin + step - 1) / step * step;
  for (int64_t k = begin; k < depth.end; k += step) {  // rows outside: they may come from memory, the panels lie in the caches
    const auto* const from = row_of(k);
    const auto* const next = step == 2 && k + 1 < packed.depth ? row_of(k + 1) : nullptr;
    for (int64_t p = 0; p < packed.panels(); ++p) {
      const int64_t width = packed.width(p), column = p * packed.panel;
      PackedElement<T>* to = packed.at(p, k);
      for (int64_t j = 0; j < width; j += lanes) {
        const int n = static_cast<int>(std::min<int64_t>(lanes, width - j));
        if constexpr (step == 2)
          store(to + j, make_pairs(load_half(from + column + j, n), next ? load_half(next + column + j, n) : Half16{}));
        else
          store(to + j, load_sum(from + column + j, n));
      }
    }
  }
}

// Packs the panels [begin, end) of B = W^T from column_of(j), a pointer to the K values of column j.
template <class T, class ColumnOf>
void pack_columns(const Packed<T>& packed, Range panels, const ColumnOf& column_of) {
  using Element = PackedElement<T>;
  constexpr int lanes = kLanes<Sum<T>>, step = kPackedRows<T>;
  for (int64_t p = panels.begin; p < panels.end; ++p) {
    const int64_t width = packed.width(p), padded = round_to_lanes<Sum<T>>(width);
    for (int64_t j = 0; j < padded; j += lanes) {
      std::decay_t<decltype(column_of(0))> from[lanes];
      const int present = static_cast<int>(std::min<int64_t>(lanes, width - j));
      for (int i = 0; i < lanes; ++i) from[i] = column_of(p * packed.panel + j + std::min(i, present - 1));
      for (int64_t k = 0; k < packed.depth; k += lanes * step) {
        const int values = static_cast<int>(std::min<int64_t>(lanes * step, packed.depth - k));
        Vec<Element> square[lanes];
        for (int i = 0; i < lanes; ++i) {
          if constexpr (step == 2)
            square[i] = load_pairs(from[i] + k, values);
          else
            square[i] = load_sum(from[i] + k, values);
        }
        for (int i = present; i < lanes; ++i) square[i] = Vec<Element>{};
        transpose<Element>(square);
        Element* to = packed.at(p, k) + j;
        for (int i = 0; i * step < values; ++i) store(to + i * padded, square[i]);
      }
    }
  }
}

}  // namespace seqkern::cpu::SEQKERN_ISA
