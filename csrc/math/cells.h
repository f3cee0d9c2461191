// All cells, and what a caller of the kernels needs to know of each.
#pragma once

#include "math/cell_list.h"
#include "math/gru_cell.h"
#include "math/lstm_cell.h"
#include "math/mgu_cell.h"
#include "math/rnn_cell.h"

namespace seqkern::math {

// What a caller of the kernels needs to know of a cell.
struct CellInfo {
  int gates;
  int slots;
  Candidate candidate;
  bool has_cell;
  int parameters;
};

#define SEQKERN_CELL_INFO(name, Cell) {Cell::kGates, Cell::kSlots, Cell::kCandidate, Cell::kHasCell, Cell::kParameters},
constexpr CellInfo kCells[] = {SEQKERN_CELLS(SEQKERN_CELL_INFO)};
#undef SEQKERN_CELL_INFO

}  // namespace seqkern::math
