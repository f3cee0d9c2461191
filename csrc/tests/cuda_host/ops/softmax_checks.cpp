// The checks of ops/softmax.cpp, without the ops that it registers.
#include <torch/library.h>

#undef TORCH_LIBRARY_FRAGMENT
#define TORCH_LIBRARY_FRAGMENT(name, m) [[maybe_unused]] static void define(torch::Library& m)
#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(name, key, m) [[maybe_unused]] static void implement(torch::Library& m)

#include "ops/softmax.cpp"
