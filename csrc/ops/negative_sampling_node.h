// The binding to Python of negative_sampling_node.cpp.
#pragma once

#include <pybind11/pybind11.h>

namespace seqkern::ops {

void bind_negative_sampling(pybind11::module_& module);

}  // namespace seqkern::ops
