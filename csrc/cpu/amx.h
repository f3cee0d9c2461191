// Tiles of C = A B (gemm.h) of bfloat16 values on the matrix unit, AMX: 8 registers of 16 rows x 64 bytes.
//
// B lies as pack.h left it: a register of it holds 16 pairs of rows and a vector's columns, a register of A 16 rows and 32
// columns. A register of C is a sum for 16 x 16 values, and is stored when all of a pass over K is in it.
#pragma once

#include "cpu/isa.h"
#include "cpu/pack.h"

namespace seqkern::cpu::SEQKERN_ISA {

class AmxTiles {
 public:
  static constexpr int64_t kRows = 32;  // most rows of a tile of C

  AmxTiles() = default;
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
  ~AmxTiles() {
    if (rows_) _tile_release();
  }

  // See TileUnit in gemm.h.
  void multiply(int64_t rows, int64_t width, int64_t depth, const math::BFloat16* a, int64_t a_stride, const Pair* b,
                float* const* c, const float* start, bool accumulate) {
    const int64_t vectors = (width + kLane - 1) / kLane, whole = depth / kDepth * kDepth, pairs = (depth + 1) / 2;
    configure(rows);
    // What is left of K is taken with as much before it as fills the registers, against zeros in A.
    alignas(64) math::BFloat16 last_a[kRows * kDepth];
    alignas(64) Pair padded[kPairs * kPanelVectors * kLane];
    const int64_t last = std::max<int64_t>(pairs - kPairs, 0);
    const Pair* last_b = b + last * vectors * kLane;
    if (whole < depth) {
      std::memset(last_a, 0, sizeof(math::BFloat16) * static_cast<size_t>(rows * kDepth));
      for (int64_t r = 0; r < rows; ++r)
        std::copy(a + r * a_stride + whole, a + r * a_stride + depth, last_a + r * kDepth + whole - 2 * last);
      if (pairs < kPairs) {
        std::fill(std::copy_n(b, pairs * vectors * kLane, padded), padded + kPairs * vectors * kLane, 0);
        last_b = padded;
      }
    }
    alignas(64) float sums[kRows * kPanelVectors * kLane];
    // One row of registers takes four vectors of columns at a time, two rows take two.
    const int64_t group = rows > kRegisterRows ? 2 : 4;
    for (int64_t v = 0; v < vectors; v += group) {
      const int64_t count = std::min(group, vectors - v);
      const auto add = [&](const math::BFloat16* left, int64_t left_stride, const Pair* right) {
        if (rows > kRegisterRows)
          add_two_rows(left, left_stride, right + v * kLane, vectors * kLane, count);
        else
          add_row(left, left_stride, right + v * kLane, vectors * kLane, count);
      };
      zero();
      for (int64_t k = 0; k < whole; k += kDepth) add(a + k, a_stride, b + k / 2 * vectors * kLane);
      if (whole < depth) add(last_a, kDepth, last_b);
      store_sums(sums + v * kLane, rows, count);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t v = 0; v < vectors; ++v) {
        const int valid = static_cast<int>(std::min(kLane, width - v * kLane));
        Float sum = load(sums + (r * kPanelVectors + v) * kLane);
        if (accumulate)
          sum += load_partial(c[r] + v * kLane, valid);
        else if (start)
          sum += load(start + v * kLane);
        store_partial(c[r] + v * kLane, sum, valid);
      }
  }

 private:
  static constexpr int64_t kRegisterRows = 16, kLane = kLanes<float>, kPairs = 16, kDepth = 2 * kPairs;

  struct alignas(64) Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };

  // Registers 0 to 3 hold C, 4 and, of the second row, 5 A, the others B; with two rows, 2, 3 and 5 are of the second.
  void configure(int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    const auto first = static_cast<uint8_t>(std::min(rows, kRegisterRows));
    const auto second = static_cast<uint8_t>(rows - first);
    Configuration configuration{};
    configuration.palette = 1;
    for (int i = 0; i < 8; ++i) {
      configuration.row_bytes[i] = 64;
      configuration.rows[i] = first;
    }
    if (second) {
      for (const int i : {2, 3, 5}) configuration.rows[i] = second;
      for (const int i : {6, 7}) configuration.rows[i] = kPairs;
    } else {
      for (const int i : {5, 6, 7}) configuration.rows[i] = kPairs;
    }
    _tile_loadconfig(&configuration);
  }

  static void zero() {
    asm volatile("" ::: "memory");  // what tiles are loaded from is written
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }

  // C += A B of 32 rows of B, for 1 to 4 vectors of columns. Strides are in elements.
  SEQKERN_INLINE static void add_row(const math::BFloat16* a, int64_t a_stride, const Pair* b, int64_t b_stride,
                                     int64_t vectors) {
    const int64_t a_bytes = a_stride * 2, b_bytes = b_stride * 4;
    _tile_loadd(4, a, a_bytes);
    _tile_loadd(5, b, b_bytes);
    _tile_dpbf16ps(0, 4, 5);
    if (vectors < 2) return;
    _tile_loadd(6, b + kLane, b_bytes);
    _tile_dpbf16ps(1, 4, 6);
    if (vectors < 3) return;
    _tile_loadd(7, b + 2 * kLane, b_bytes);
    _tile_dpbf16ps(2, 4, 7);
    if (vectors < 4) return;
    _tile_loadd(5, b + 3 * kLane, b_bytes);
    _tile_dpbf16ps(3, 4, 5);
  }

  // The same of 17 to 32 rows of A, for 1 or 2 vectors.
  SEQKERN_INLINE static void add_two_rows(const math::BFloat16* a, int64_t a_stride, const Pair* b, int64_t b_stride,
                                          int64_t vectors) {
    const int64_t a_bytes = a_stride * 2, b_bytes = b_stride * 4;
    _tile_loadd(4, a, a_bytes);
    _tile_loadd(5, a + kRegisterRows * a_stride, a_bytes);
    _tile_loadd(6, b, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 5, 6);
    if (vectors < 2) return;
    _tile_loadd(7, b + kLane, b_bytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }

  static void store_sums(float* to, int64_t rows, int64_t vectors) {
    constexpr int64_t stride = kPanelVectors * kLane, bytes = stride * 4;
    if (rows > kRegisterRows) {
      _tile_stored(0, to, bytes);
      _tile_stored(2, to + kRegisterRows * stride, bytes);
      if (vectors < 2) return;
      _tile_stored(1, to + kLane, bytes);
      _tile_stored(3, to + kRegisterRows * stride + kLane, bytes);
      return;
    }
    _tile_stored(0, to, bytes);
    if (vectors > 1) _tile_stored(1, to + kLane, bytes);
    if (vectors > 2) _tile_stored(2, to + 2 * kLane, bytes);
    if (vectors > 3) _tile_stored(3, to + 3 * kLane, bytes);
  }

  int64_t rows_ = 0;  // that the registers are set up for; 0: not at all
};

}  // namespace seqkern::cpu::SEQKERN_ISA
