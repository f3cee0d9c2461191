// Columns of a matrix by index, and their gradients, on the CPU.
//
// A matrix [R, V] is walked some rows at a time: those lie in the second-level cache while all indices visit them, and R, the
// contiguous axis of the other side, is read or written a cache line at a time.
#pragma once

#include "cpu/parallel.h"
#include "params/columns.h"

namespace seqkern::cpu::SEQKERN_ISA {

constexpr int64_t kRowsAtOnce = 16;

template <class T, class Body>
void for_each_row_block(const ColumnsParams<T>& p, const Body& body) {
  parallel(p.threads, [&](const Worker& worker) {
    const Range blocks = worker.part_of((p.rows + kRowsAtOnce - 1) / kRowsAtOnce);
    for (int64_t block = blocks.begin; block < blocks.end; ++block)
      body(block * kRowsAtOnce, std::min(kRowsAtOnce, p.rows - block * kRowsAtOnce));
  });
}

// to[m, r] = from[r, ids[m]].
template <class T>
void gather_columns(const ColumnsParams<T>& p) {
  for_each_row_block(p, [&](int64_t first, int64_t count) {
    for (int64_t m = 0; m < p.count; ++m) {
      const T* const column = p.from + first * p.columns + p.ids[m];
      for (int64_t i = 0; i < count; ++i) p.to[m * p.rows + first + i] = column[i * p.columns];
    }
  });
}

// to[r, v] = sum of from[m, r] over m with ids[m] = v, in the order of m.
template <class T>
void scatter_columns(const ColumnsParams<T>& p) {
  for_each_row_block(p, [&](int64_t first, int64_t count) {
    T* const rows = p.to + first * p.columns;
    std::fill_n(rows, count * p.columns, T(0));
    for (int64_t m = 0; m < p.count; ++m) {
      T* const column = rows + p.ids[m];
      for (int64_t i = 0; i < count; ++i) column[i * p.columns] += p.from[m * p.rows + first + i];
    }
  });
}

}  // namespace seqkern::cpu::SEQKERN_ISA
