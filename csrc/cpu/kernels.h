// The CPU kernels as the rest of the library calls them: `kernels<float>().lstm_forward(params)`.
//
// Every kernel is compiled once per instruction set, by kernels_<isa>.cpp; the table holds those for the set in use.
#pragma once

#include "math/bfloat16.h"
#include "params/recurrent.h"
#include "params/softmax.h"

namespace seqkern::cpu {

template <class T>
struct KernelTable {
  void (*lstm_forward)(const RecurrentForwardParams<T>&);
  void (*lstm_backward)(const RecurrentBackwardParams<T>&);
  void (*softmax_loss)(const SoftmaxLossParams<T>&);
};

// The recurrent kernels take bfloat16 tensors as float32, so its table holds only the loss.
template <>
struct KernelTable<math::BFloat16> {
  void (*softmax_loss)(const SoftmaxLossParams<math::BFloat16>&);
};

// T is float, double or math::BFloat16.
template <class T>
const KernelTable<T>& kernels();

}  // namespace seqkern::cpu
