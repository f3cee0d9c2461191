// Packed matrix product for row counts from one to thousands: C [M, N] (+)= A [M, K] B [K, N] (+ bias [N]).
//
// B is packed once into panels of at most kPanelVectors SIMD vectors of columns; within a panel the K rows lie one after the
// other, so the inner loop streams it. The inner loop keeps a tile of at most kTileRows x kPanelVectors vectors of C in
// registers. A is read in place where its K runs along memory, and is transposed block by block where it does not. Each element
// of C is summed over k in one fixed order, whatever the number of threads.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "cpu/buffer.h"
#include "cpu/parallel.h"
#include "cpu/simd.h"

namespace seqkern::cpu::SEQKERN_ISA {

// 6 x 4 accumulators, 4 vectors of B and one broadcast fill the 32 registers of AVX-512 and NEON; 6 x 2 the 16 of AVX2 and SSE.
#if SEQKERN_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kPanelVectors = 4;
#else
constexpr int kPanelVectors = 2;
#endif
constexpr int kTileRows = 6;
constexpr int64_t kRowsInBlock = 96;     // rows of A that are swept through all panels together
constexpr int64_t kPanelBytes = 131072;  // part of a panel that is swept at a time: it streams from the second-level cache

template <class T>
int64_t round_to_lanes(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// B [K, columns] in panels of `panel` columns (a multiple of the lanes); the last panel is padded with zeros to whole vectors.
template <class T>
struct Packed {
  int64_t depth;    // K
  int64_t columns;  // N
  int64_t panel;
  Buffer<T> data;

  Packed(int64_t depth, int64_t columns, int64_t panel = kPanelVectors * kLanes<T>)
      : depth(depth), columns(columns), panel(panel), data(depth * round_to_lanes<T>(columns)) {}

  int64_t panels() const { return (columns + panel - 1) / panel; }
  int64_t width(int64_t p) const { return std::min(panel, columns - p * panel); }
  T* at(int64_t p) const { return data.get() + p * panel * depth; }
};

// Packs rows [k_begin, k_end) of B from row_of(k), a pointer to the N values of row k.
template <class T, class RowOf>
void pack_rows(const Packed<T>& packed, Range depth, const RowOf& row_of) {
  for (int64_t p = 0; p < packed.panels(); ++p) {
    const int64_t width = packed.width(p), padded = round_to_lanes<T>(width);
    for (int64_t k = depth.begin; k < depth.end; ++k) {
      const T* from = row_of(k) + p * packed.panel;
      T* to = packed.at(p) + k * padded;
      int64_t j = 0;
      for (; j + kLanes<T> <= width; j += kLanes<T>) store(to + j, load(from + j));
      if (j < width) store(to + j, load_partial(from + j, static_cast<int>(width - j)));
    }
  }
}

// Packs the panels [begin, end) of B = W^T from column_of(j), a pointer to the K values of column j.
template <class T, class ColumnOf>
void pack_columns(const Packed<T>& packed, Range panels, const ColumnOf& column_of) {
  constexpr int lanes = kLanes<T>;
  for (int64_t p = panels.begin; p < panels.end; ++p) {
    const int64_t width = packed.width(p), padded = round_to_lanes<T>(width);
    for (int64_t j = 0; j < padded; j += lanes) {
      const T* from[lanes];
      const int present = static_cast<int>(std::min<int64_t>(lanes, width - j));
      for (int i = 0; i < lanes; ++i) from[i] = column_of(p * packed.panel + j + std::min(i, present - 1));
      T* to = packed.at(p) + j;
      for (int64_t k = 0; k < packed.depth; k += lanes) {
        const int rows = static_cast<int>(std::min<int64_t>(lanes, packed.depth - k));
        Vec<T> square[lanes];
        for (int i = 0; i < lanes; ++i) square[i] = load_partial(from[i] + k, rows);
        for (int i = present; i < lanes; ++i) square[i] = Vec<T>{};
        transpose<T>(square);
        for (int i = 0; i < rows; ++i) store(to + (k + i) * padded, square[i]);
      }
    }
  }
}

// One tile of C in registers: row r of A at a + r * a_stride; c: pointers to the rows of C; last: valid lanes of the last vector.
// start: the values to begin from, one per column (or null for zero), unless accumulating.
template <class T, int kRows, int kVectors>
void tile(int64_t depth, const T* a, int64_t a_stride, const T* b, T* const* c, int last, const T* start, bool accumulate) {
  constexpr int lanes = kLanes<T>;
  Vec<T> sum[kRows][kVectors];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = accumulate ? load_partial(c[r] + v * lanes, v == kVectors - 1 ? last : lanes)
                  : start    ? load(start + v * lanes)
                             : Vec<T>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * lanes);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const T value = a[r * a_stride];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += value * row[v];
    }
    ++a;
    b += kVectors * lanes;
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store_partial(c[r] + v * lanes, sum[r][v], v == kVectors - 1 ? last : lanes);
}

template <class T>
using Tile = void (*)(int64_t, const T*, int64_t, const T*, T* const*, int, const T*, bool);

template <class T, int... kIndex>
Tile<T> find_tile(int64_t rows, int64_t vectors, std::integer_sequence<int, kIndex...>) {
  static constexpr Tile<T> table[] = {tile<T, kIndex / kPanelVectors + 1, kIndex % kPanelVectors + 1>...};
  return table[(rows - 1) * kPanelVectors + vectors - 1];
}

// The tile of `rows` x `width` values of C, for any width up to a panel.
template <class T>
void any_tile(int64_t rows, int64_t width, int64_t depth, const T* a, int64_t a_stride, const T* b, T* const* c, const T* start,
              bool accumulate) {
  const int64_t vectors = (width + kLanes<T> - 1) / kLanes<T>;
  const Tile<T> run = find_tile<T>(rows, vectors, std::make_integer_sequence<int, kTileRows * kPanelVectors>{});
  run(depth, a, a_stride, b, c, static_cast<int>(width - (vectors - 1) * kLanes<T>), start, accumulate);
}

// Calls body(begin, size) for tiles of nearly equal size, at most kTileRows rows each.
template <class Body>
void for_each_tile(Range rows, const Body& body) {
  const int64_t count = rows.end - rows.begin, tiles = (count + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t begin = count * i / tiles, end = count * (i + 1) / tiles;
    body(rows.begin + begin, end - begin);
  }
}

// Number of rows of B in one pass, such that a panel's part stays in the second-level cache.
template <class T>
int64_t depth_of_pass(int64_t depth, int64_t panel) {
  const int64_t most = kPanelBytes / static_cast<int64_t>(sizeof(T)) / panel;
  const int64_t passes = (depth + most - 1) / most;
  return passes == 0 ? 1 : (depth + passes - 1) / passes;
}

// A [M, K] as it lies in memory: element (m, k) at data[m * stride + k], or, transposed, at data[k * stride + m].
template <class T>
struct Left {
  const T* data;
  int64_t stride;
  bool transposed = false;
};

// Writes rows `block` and columns [k, k + depth) of a transposed A to `to`, each row `stride` after the one before.
template <class T>
void transpose_block(const Left<T>& a, Range block, int64_t k, int64_t depth, T* to, int64_t stride) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t m = block.begin; m < block.end; m += lanes) {
    const int rows = static_cast<int>(std::min(lanes, block.end - m));
    for (int64_t i = 0; i < depth; i += lanes) {
      const int64_t count = std::min(lanes, depth - i);
      Vec<T> square[lanes];
      for (int64_t j = 0; j < lanes; ++j)
        square[j] = load_partial(a.data + (k + i + std::min(j, count - 1)) * a.stride + m, rows);
      transpose<T>(square);
      for (int64_t r = 0; r < rows; ++r) store(to + (m - block.begin + r) * stride + i, square[r]);
    }
  }
}

// One right-hand side B and where A B goes: row m of C begins at c + (row_map ? row_map[m] : m) * c_stride.
// bias: one value per column, readable to whole vectors, or null.
template <class T>
struct Product {
  const Packed<T>& b;
  T* c;
  int64_t c_stride;
  const int64_t* row_map = nullptr;
  const T* bias = nullptr;
};

// The rows `rows` of C = A B (+ bias) for each of the products, which share A and so K.
template <class T>
void gemm(Range rows, const Left<T>& a, std::initializer_list<Product<T>> products) {
  const int64_t K = products.begin()->b.depth;
  const int64_t pass = depth_of_pass<T>(K, products.begin()->b.panel);
  const int64_t block_stride = round_to_lanes<T>(pass);
  const Buffer<T> transposed(a.transposed ? kRowsInBlock * block_stride : 0);
  for (int64_t k = 0; k == 0 || k < K; k += pass) {
    const int64_t depth = std::min(pass, K - k);
    for (int64_t m = rows.begin; m < rows.end; m += kRowsInBlock) {
      const Range block{m, std::min(m + kRowsInBlock, rows.end)};
      if (a.transposed) transpose_block(a, block, k, depth, transposed.get(), block_stride);
      const T* a_block = a.transposed ? transposed.get() : a.data + m * a.stride + k;
      const int64_t a_stride = a.transposed ? block_stride : a.stride;
      for (const Product<T>& product : products) {
        for (int64_t p = 0; p < product.b.panels(); ++p) {
          const int64_t width = product.b.width(p), column = p * product.b.panel;
          const T* panel = product.b.at(p) + k * round_to_lanes<T>(width);
          const T* start = product.bias ? product.bias + column : nullptr;
          for_each_tile(block, [&](int64_t begin, int64_t size) {
            T* c[kTileRows];
            for (int64_t r = begin; r < begin + size; ++r)
              c[r - begin] = product.c + (product.row_map ? product.row_map[r] : r) * product.c_stride + column;
            any_tile<T>(size, width, depth, a_block + (begin - m) * a_stride, a_stride, panel, c, start, k > 0);
          });
        }
      }
    }
  }
}

}  // namespace seqkern::cpu::SEQKERN_ISA
