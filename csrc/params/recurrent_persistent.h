// What the persistent recurrent kernels take, which run many steps in one launch (CUDA).
//
// Sizes as in params/recurrent_step.h. Arrays of several steps are given at the row of the first turn; turn t of a launch is step
// p.step + t forward, p.step - t backward. The recurrence is not projected here: R is H.
#pragma once

#include "params/recurrent_step.h"

namespace seqkern {

// The array by which blocks hand each other what the next product takes: entries [N, K, parts, row_size], of H elements and zeros
// up to row_size, which fills vectors of 16 bytes. Entry e is the input of a product at turn e. An element of an entry yet to
// come is all ones (a NaN that no arithmetic yields), so that whoever reads an entry sees what is there.
template <class T>
struct RecurrentExchange {
  const T* first;      // entry 0, which is there from the beginning; null if turn 0 has no such product
  T* later;            // entry 1; entry e is (e - 1) * entry_size elements from it
  int64_t entry_size;  // may be negative
  int64_t row_size;    // of a part: H or more
  int64_t parts;       // gates side by side
  int64_t head_size;   // elements from one head's row to the next, and from one sequence's to the next
  int64_t sequence_size;
  bool complete;  // all entries are there already: nothing is handed on
};

// How the work is laid out: the units of a head over blocks, its sequences over groups of blocks that know nothing of each other.
struct RecurrentTiling {
  int64_t turns;      // steps of this launch
  int64_t groups;     // of sequences
  int64_t per_group;  // sequences of a group: groups * per_group >= N
  int64_t chunk;      // sequences taken at once: 8 or 16
  bool exact;         // float32 products are of float32 precision, not of TF32
};

template <class T>
struct RecurrentPersistentForwardParams : RecurrentStepForwardParams<T> {
  RecurrentTiling tiling;
  const T* weight_hh;                   // [K, G, H, H]
  RecurrentExchange<T> exchange;        // of the hidden state
  RecurrentExchange<T> gated_exchange;  // of the candidate's product input, where that is gated; entry e belongs to turn e - 1
};

template <class T>
struct RecurrentPersistentBackwardParams : RecurrentStepBackwardParams<T> {
  RecurrentTiling tiling;
  const T* weight_hh;                   // [K, G, H, H]
  RecurrentExchange<T> exchange;        // of the gradients of gates (all but a gated candidate)
  RecurrentExchange<T> gated_exchange;  // of a gated candidate's gradient; entry e belongs to turn e - 1
};

}  // namespace seqkern
