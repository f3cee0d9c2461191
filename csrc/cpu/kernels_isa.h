// The body of kernels_<isa>.cpp: every CPU kernel, compiled for the instruction set whose target pragma stands above.
#include "cpu/columns.h"
#include "cpu/linear_softmax.h"
#include "cpu/negative_sampling.h"
#include "cpu/recurrent_backward.h"
#include "cpu/recurrent_forward.h"
#include "cpu/softmax.h"

namespace seqkern::cpu::SEQKERN_ISA {

extern const KernelTable<float> float_table;
extern const KernelTable<double> double_table;
extern const KernelTable<math::BFloat16> bfloat16_table;
extern const KernelTable<math::Float16> float16_table;

template <class T, class Cell>
constexpr RecurrentKernels<T> kRecurrentKernels = {recurrent_forward<Cell, T>, recurrent_backward<Cell, T>};

template <class T>
constexpr KernelTable<T> make_table() {
#define SEQKERN_RECURRENT_KERNELS(name, Cell) kRecurrentKernels<T, Cell>,
  return {{SEQKERN_CELLS(SEQKERN_RECURRENT_KERNELS)},
          gather_columns<T>,
          scatter_columns<T>,
          softmax_loss<T>,
          linear_softmax_loss<T>,
          negative_sampling<T>};
}

// Of a half type without products of its own.
template <class T>
constexpr KernelTable<T> make_half_table() {
  return {{}, nullptr, nullptr, softmax_loss<T>, linear_softmax_loss<T>, negative_sampling<T>};
}

#if SEQKERN_BFLOAT16_DOT  // which changes nothing for the other types
using T = math::BFloat16;
const KernelTable<T> bfloat16_table = {
    {SEQKERN_CELLS(SEQKERN_RECURRENT_KERNELS)}, nullptr, nullptr, softmax_loss<T>, linear_softmax_loss<T>, negative_sampling<T>};
#else
const KernelTable<float> float_table = make_table<float>();
const KernelTable<double> double_table = make_table<double>();
const KernelTable<math::BFloat16> bfloat16_table = make_half_table<math::BFloat16>();
const KernelTable<math::Float16> float16_table = make_half_table<math::Float16>();
#endif

}  // namespace seqkern::cpu::SEQKERN_ISA
