// The body of kernels_<isa>.cpp: every CPU kernel, compiled for the instruction set whose target pragma stands above.
#include "cpu/columns.h"
#include "cpu/recurrent_backward.h"
#include "cpu/recurrent_forward.h"
#include "cpu/softmax.h"

namespace seqkern::cpu::SEQKERN_ISA {

extern const KernelTable<float> float_table;
extern const KernelTable<double> double_table;
extern const KernelTable<math::BFloat16> bfloat16_table;

template <class T, class Cell>
constexpr RecurrentKernels<T> kRecurrentKernels = {recurrent_forward<Cell, T>, recurrent_backward<Cell, T>};

template <class T>
constexpr KernelTable<T> make_table() {
#define SEQKERN_RECURRENT_KERNELS(name, Cell) kRecurrentKernels<T, Cell>,
  return {{SEQKERN_CELLS(SEQKERN_RECURRENT_KERNELS)}, gather_columns<T>, scatter_columns<T>, softmax_loss<T>};
}

#if SEQKERN_BFLOAT16_DOT  // which changes nothing for float and double
using T = math::BFloat16;
const KernelTable<T> bfloat16_table = {{SEQKERN_CELLS(SEQKERN_RECURRENT_KERNELS)}, nullptr, nullptr, softmax_loss<T>};
#else
const KernelTable<float> float_table = make_table<float>();
const KernelTable<double> double_table = make_table<double>();
const KernelTable<math::BFloat16> bfloat16_table = {{}, nullptr, nullptr, softmax_loss<math::BFloat16>};
#endif

}  // namespace seqkern::cpu::SEQKERN_ISA
