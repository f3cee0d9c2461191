// What the kernels take that read and write columns of a matrix: a product with one-hot vectors, and its gradient.
#pragma once

#include <cstdint>

namespace seqkern {

template <class T>
struct ColumnsParams {
  int64_t rows;        // R
  int64_t columns;     // V
  int64_t count;       // M
  const int64_t* ids;  // [M], each in [0, V)
  const T* from;       // gather: [R, V]; scatter: [M, R]
  T* to;               // gather: [M, R]; scatter: [R, V], overwritten
  int threads;         // CPU only
};

}  // namespace seqkern
