// Included before everything else in the files of csrc/ops that hold the CUDA ops: what they register for CUDA becomes an op of
// the same name in the namespace seqkern_cuda_host, for tensors on the CPU (python_tests/test_cuda_host.py).
#pragma once

#include <torch/library.h>

namespace seqkern {

// In place of a torch::Library that implements ops: defines them, with the schema that the implementation has.
struct OpDefiner {
  torch::Library& library;

  template <class Function>
  void impl(const char* name, Function function) {
    library.def(name, function);
  }
};

}  // namespace seqkern

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(library_name, key, m)                                                  \
  static void define_ops(seqkern::OpDefiner);                                                     \
  TORCH_LIBRARY_FRAGMENT(seqkern_cuda_host, library) { define_ops(seqkern::OpDefiner{library}); } \
  static void define_ops([[maybe_unused]] seqkern::OpDefiner m)
