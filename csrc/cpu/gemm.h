// Packed matrix product for row counts from one to thousands: C [M, N] (+)= A [M, K] B [K, N] (+ bias [N]).
//
// B is packed once (pack.h). The inner loop keeps a tile of at most kTileSums vectors of C in registers. A is read in place where
// its K runs along memory, and is transposed block by block where it does not. Each element of C is summed over k in one fixed
// order, whatever the number of threads. C and bias have the type that T is summed in. bfloat16 needs SEQKERN_BFLOAT16_DOT, and
// runs on the matrix unit where the CPU has one (amx.h).
#pragma once

#include <initializer_list>

#include "cpu/pack.h"
#if SEQKERN_BFLOAT16_DOT
#include "cpu/amx.h"
#endif

namespace seqkern::cpu::SEQKERN_ISA {

constexpr int64_t kRowsInBlock = 192;  // rows of A that are swept through all panels together
constexpr int64_t kPassRows = 512;     // packed rows of B in a sweep: a panel's stream from the second-level cache
constexpr int64_t kSumRows = 256;      // packed rows whose products are summed on their own, so that errors do not grow with K

// sum += row r of A times the packed rows at b, for every row of a tile. left(r): the element of A that meets an element of B.
template <class T, int kRows, int kVectors, class Left>
SEQKERN_INLINE void add_products(const PackedElement<T>* b, const Left& left, Vec<Sum<T>> (&sum)[kRows][kVectors]) {
  Vec<PackedElement<T>> right[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes<Sum<T>>);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const auto value = left(r);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kPackedRows<T> == 2)
        sum[r][v] = dot_pairs(sum[r][v], broadcast(value), right[v]);
      else
        sum[r][v] += value * right[v];
    }
  }
}

// One tile of C in registers: row r of A at a + r * a_stride; b: packed rows; c: pointers to the rows of C; last: valid lanes of
// the last vector. start: the values to begin from, one per column (or null for zero), unless accumulating: what C holds is added
// last.
template <class T, int kRows, int kVectors>
void tile(int64_t depth, const T* a, int64_t a_stride, const PackedElement<T>* b, Sum<T>* const* c, int last, const Sum<T>* start,
          bool accumulate) {
  constexpr int lanes = kLanes<Sum<T>>;
  Vec<Sum<T>> sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = start && !accumulate ? load(start + v * lanes) : Vec<Sum<T>>{};
  if constexpr (kPackedRows<T> == 2) {
    for (; depth > 1; depth -= 2) {
      add_products<T>(b, [&](int r) { return load_pair(a + r * a_stride); }, sum);
      a += 2;
      b += kVectors * lanes;
    }
    if (depth == 1) add_products<T>(b, [&](int r) { return Pair{a[r * a_stride].bits}; }, sum);
  } else {
    for (; depth > 0; --depth) {
      add_products<T>(b, [&](int r) { return a[r * a_stride]; }, sum);
      ++a;
      b += kVectors * lanes;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int valid = v == kVectors - 1 ? last : lanes;
      if (accumulate) sum[r][v] += load_partial(c[r] + v * lanes, valid);
      store_partial(c[r] + v * lanes, sum[r][v], valid);
    }
}

template <class T>
using Tile = void (*)(int64_t, const T*, int64_t, const PackedElement<T>*, Sum<T>* const*, int, const Sum<T>*, bool);

// Asks for the tile's rows of C, which are needed when all products are summed.
template <class S>
SEQKERN_INLINE void prefetch_tile(int64_t rows, int64_t vectors, S* const* c) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t v = 0; v < vectors; ++v) __builtin_prefetch(c[r] + v * kLanes<S>, 1);
}

template <class T, int kRows, int kVectors>
constexpr Tile<T> tile_if_it_fits() {
  if constexpr (kRows * kVectors <= kTileSums)
    return tile<T, kRows, kVectors>;
  else
    return nullptr;
}

template <class T, int... kIndex>
Tile<T> find_tile(int64_t rows, int64_t vectors, std::integer_sequence<int, kIndex...>) {
  static constexpr Tile<T> table[] = {tile_if_it_fits<T, kIndex / kPanelVectors + 1, kIndex % kPanelVectors + 1>()...};
  return table[(rows - 1) * kPanelVectors + vectors - 1];
}

// The length of the parts, at most `most` packed rows each and nearly equal, that a depth is cut into; a multiple of kPackedRows.
template <class T>
int64_t even_part(int64_t depth, int64_t most) {
  constexpr int64_t step = kPackedRows<T>;
  const int64_t parts = (depth + most * step - 1) / (most * step);
  return parts == 0 ? step : ((depth + parts - 1) / parts + step - 1) / step * step;
}

// A tile of `rows` x `width` values of C, for any width up to a panel, in vector registers. b: Packed::at(), and depth a multiple
// of kPackedRows or what is left of B.
template <class T>
void any_tile(int64_t rows, int64_t width, int64_t depth, const T* a, int64_t a_stride, const PackedElement<T>* b,
              Sum<T>* const* c, const Sum<T>* start, bool accumulate) {
  constexpr int64_t lanes = kLanes<Sum<T>>;
  const int64_t vectors = (width + lanes - 1) / lanes, part = even_part<T>(depth, kSumRows);
  const int last = static_cast<int>(width - (vectors - 1) * lanes);
  const Tile<T> run = find_tile<T>(rows, vectors, std::make_integer_sequence<int, kMostTileRows * kPanelVectors>{});
  prefetch_tile(rows, vectors, c);
  for (int64_t k = 0; k == 0 || k < depth; k += part) {
    run(std::min(part, depth - k), a, a_stride, b, c, last, start, accumulate || k > 0);
    a += part;
    b += part / kPackedRows<T> * vectors * lanes;
  }
}

// What computes tiles of at most rows(panel) <= kMostRows rows: for bfloat16 the matrix unit, where there is one. From the first
// to the last product of one object, no other may work on its thread.
template <class T>
class TileUnit {
 public:
  static constexpr int64_t kMostRows = kMostTileRows;
  int64_t rows(int64_t panel) const { return tile_rows(panel / kLanes<Sum<T>>); }
  template <class... Arguments>
  void multiply(Arguments... arguments) {
    any_tile<T>(arguments...);
  }
};

#if SEQKERN_BFLOAT16_DOT
template <>
class TileUnit<math::BFloat16> {
 public:
  static constexpr int64_t kMostRows = AmxTiles::kRows;
  int64_t rows(int64_t panel) const { return amx_ ? AmxTiles::kRows : tile_rows(panel / kLanes<float>); }
  template <class... Arguments>
  void multiply(Arguments... arguments) {
    amx_ ? tiles_.multiply(arguments...) : any_tile<math::BFloat16>(arguments...);
  }

 private:
  const bool amx_ = current_isa() == Isa::amx_bf16;
  AmxTiles tiles_;
};
#endif

// Calls body(begin, size) for tiles of nearly equal size, at most `most` rows each.
template <class Body>
void for_each_tile(Range rows, int64_t most, const Body& body) {
  const int64_t count = rows.end - rows.begin, tiles = (count + most - 1) / most;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t begin = count * i / tiles, end = count * (i + 1) / tiles;
    body(rows.begin + begin, end - begin);
  }
}

// A [M, K] as it lies in memory: element (m, k) at data[m * stride + k], or, transposed, at data[k * stride + m].
template <class T>
struct Left {
  const T* data;
  int64_t stride;
  bool transposed = false;
};

// Writes rows `block` and columns [k, k + depth) of a transposed A to `to`, each row `stride` after the one before; rows may be
// written on to whole vectors. bfloat16 values travel in pairs of one row's.
template <class T>
void transpose_block(const Left<T>& a, Range block, int64_t k, int64_t depth, T* to, int64_t stride) {
  using Element = PackedElement<T>;
  constexpr int64_t lanes = kLanes<Element>, values = kPackedRows<T>;
  for (int64_t m = block.begin; m < block.end; m += lanes) {
    const int rows = static_cast<int>(std::min(lanes, block.end - m));
    for (int64_t i = 0; i < depth; i += lanes * values) {
      const auto column = [&](int64_t j) { return a.data + (k + std::min(i + j, depth - 1)) * a.stride + m; };
      Vec<Element> square[lanes];
      for (int64_t j = 0; j < lanes; ++j) {
        if constexpr (values == 2)
          square[j] = make_pairs(load_half(column(2 * j), rows), load_half(column(2 * j + 1), rows));
        else
          square[j] = load_partial(column(j), rows);
      }
      transpose<Element>(square);
      for (int64_t r = 0; r < rows; ++r) std::memcpy(to + (m - block.begin + r) * stride + i, &square[r], sizeof(square[r]));
    }
  }
}

// One right-hand side B and where A B goes: row m of C begins at c + (row_map ? row_map[m] : m) * c_stride, and its
// columns lie side by side; with a group_stride, those of every `group` panels do, and the groups begin group_stride apart.
// bias: one value per column, readable to whole vectors, or null. accumulate: add to what C holds.
template <class T>
struct Product {
  const Packed<T>& b;
  Sum<T>* c;
  int64_t c_stride;
  const int64_t* row_map = nullptr;
  const Sum<T>* bias = nullptr;
  int64_t group = 1;
  int64_t group_stride = 0;
  bool accumulate = false;
};

// The rows `rows` of C = A B (+ bias) for each of the products, which share A and so K.
template <class T>
void gemm(Range rows, const Left<T>& a, std::initializer_list<Product<T>> products) {
  const int64_t K = products.begin()->b.depth;
  const int64_t pass = even_part<T>(K, kPassRows);
  const int64_t block_stride = round_to_lanes<T>(pass);
  const Buffer<T> transposed(a.transposed ? kRowsInBlock * block_stride : 0);
  TileUnit<T> unit;
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
          const int64_t c_column =
              product.group_stride ? p / product.group * product.group_stride + p % product.group * product.b.panel : column;
          const Sum<T>* start = product.bias ? product.bias + column : nullptr;
          for_each_tile(block, unit.rows(product.b.panel), [&](int64_t begin, int64_t size) {
            Sum<T>* c[TileUnit<T>::kMostRows];
            for (int64_t r = begin; r < begin + size; ++r)
              c[r - begin] = product.c + (product.row_map ? product.row_map[r] : r) * product.c_stride + c_column;
            unit.multiply(size, width, depth, a_block + (begin - m) * a_stride, a_stride, product.b.at(p, k), c, start,
                          product.accumulate || k > 0);
          });
        }
      }
    }
  }
}

}  // namespace seqkern::cpu::SEQKERN_ISA
