// Which kernel runs a recurrence, and how its work is laid out.
//
// The table of choices is a prediction: what a step of each layout should take, from sizes and the device's rates. The layout
// with the least is taken, of those that fit the device; step by step, which fits everything, is among them. The environment
// variable SEQKERN_RECURRENT_KERNEL overrides it: "steps", "grid" or "cluster", with units and groups after colons ("grid:16:2").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/limits.h"

namespace seqkern::cuda {

enum class RecurrentKernel {
  steps,    // a product and a kernel a step
  grid,     // all steps in one launch, blocks that hand results on through global memory
  cluster,  // through the shared memory of a cluster
};

struct RecurrentPlan {
  RecurrentKernel kernel;
  int units;       // hidden units of a block
  int64_t groups;  // of sequences, whose blocks know nothing of each other
  int64_t chunk;   // sequences taken at once
};

// What a plan is for.
struct RecurrentRequest {
  int gates;
  bool gated;         // a gated candidate: two products a step
  int element_bytes;  // of tensors
  int64_t steps, batch, heads, hidden_size;
  bool backward;
  bool complete;  // what products take is there already (gates are computed again)
  bool exact;     // float32 products of float32 precision
};

// Microseconds of a step, by what they go to.
struct RecurrentStepTime {
  double exchange;  // until what a block hands on can be read by the others
  double gather;    // reading what the others handed on
  double weights;   // reading weights that are not in registers
  double matrix;    // multiplying
  double cell;      // sums over warps, barriers, the cell itself
  double total() const { return exchange + gather + weights + matrix + cell; }
};
// Shared memory of a block, about; the kernel knows it exactly.
double shared_bytes(const RecurrentPlan& plan, const RecurrentRequest& request);

RecurrentStepTime predict(const RecurrentPlan& plan, const RecurrentRequest& request, const DeviceLimits& limits);

// Blocks of a head's units.
int64_t blocks_of(const RecurrentPlan& plan, int64_t hidden_size);
// Sequences of a group.
int64_t sequences_of_group(const RecurrentPlan& plan, int64_t batch);

// The plans that may fit, the fastest first; the last is by steps.
std::vector<RecurrentPlan> recurrent_plans(const RecurrentRequest& request, const DeviceLimits& limits);

// As SEQKERN_RECURRENT_KERNEL writes it.
std::string to_string(const RecurrentPlan& plan);

// The plans that SEQKERN_RECURRENT_KERNEL leaves; with nothing there, all. Throws std::invalid_argument if it cannot be read.
std::vector<RecurrentPlan> chosen_recurrent_plans(const RecurrentRequest& request, const DeviceLimits& limits);

}  // namespace seqkern::cuda
