// The CPU kernels as the rest of the library calls them: `kernels<float>().softmax_loss(params)`.
//
// Every kernel is compiled once per instruction set, by kernels_<isa>.cpp; the table holds those for the set in use.
#pragma once

#include "math/cell_list.h"
#include "math/types.h"
#include "params/columns.h"
#include "params/negative_sampling.h"
#include "params/recurrent.h"
#include "params/softmax.h"

namespace seqkern::cpu {

template <class T>
struct RecurrentKernels {
  void (*forward)(const RecurrentForwardParams<T>&);
  void (*backward)(const RecurrentBackwardParams<T>&);
};

// T is float, double, math::BFloat16 or math::Float16. Of the half types, the recurrent kernels are there for BFloat16 alone,
// where the CPU has products of it (other tensors are taken as float32), those on columns not at all; such pointers are null.
template <class T>
struct KernelTable {
  RecurrentKernels<T> recurrent[math::kCellCount];  // by a cell's place in the list of cells
  void (*gather_columns)(const ColumnsParams<T>&);
  void (*scatter_columns)(const ColumnsParams<T>&);
  void (*softmax_loss)(const SoftmaxParams<T>&);
  void (*linear_softmax_loss)(const LinearSoftmaxParams<T>&);
  void (*negative_sampling)(const NegativeSamplingParams<T>&);
};

template <class T>
const KernelTable<T>& kernels();

}  // namespace seqkern::cpu
