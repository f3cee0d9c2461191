// The body of kernels_<isa>.cpp: every CPU kernel, compiled for the instruction set whose target pragma stands above.
#include "cpu/recurrent.h"
#include "cpu/softmax.h"

namespace seqkern::cpu::SEQKERN_ISA {

extern const KernelTable<float> float_table;
extern const KernelTable<double> double_table;
extern const KernelTable<math::BFloat16> bfloat16_table;

template <class T>
constexpr KernelTable<T> make_table() {
  return {recurrent_forward<math::LstmCell, T>, recurrent_backward<math::LstmCell, T>, softmax_loss<T>};
}

const KernelTable<float> float_table = make_table<float>();
const KernelTable<double> double_table = make_table<double>();
const KernelTable<math::BFloat16> bfloat16_table = {softmax_loss<math::BFloat16>};

}  // namespace seqkern::cpu::SEQKERN_ISA
