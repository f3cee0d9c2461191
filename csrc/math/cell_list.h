// The list of cells. A new cell is a struct (math/cell.h says what it has), a line here, and its header in math/cells.h; every
// backend is built from the list.
#pragma once

#include <string_view>

// X(name in Python, struct)
#define SEQKERN_CELLS(X)                                   \
  X("rnn_tanh", seqkern::math::RnnTanhCell)                \
  X("rnn_relu", seqkern::math::RnnReluCell)                \
  X("lstm", seqkern::math::LstmCell)                       \
  X("lstm_peephole", seqkern::math::PeepholeLstmCell)      \
  X("gru", seqkern::math::GruCell)                         \
  X("gru_reset_before", seqkern::math::GruResetBeforeCell) \
  X("mgu", seqkern::math::MguCell)

namespace seqkern::math {

#define SEQKERN_CELL_NAME(name, Cell) name,
constexpr std::string_view kCellNames[] = {SEQKERN_CELLS(SEQKERN_CELL_NAME)};
#undef SEQKERN_CELL_NAME
constexpr int kCellCount = sizeof(kCellNames) / sizeof(kCellNames[0]);

// The place of a cell in the list; -1 if there is none of this name.
constexpr int find_cell(std::string_view name) {
  for (int i = 0; i < kCellCount; ++i)
    if (kCellNames[i] == name) return i;
  return -1;
}

}  // namespace seqkern::math
