// The text reader in Python: the submodule seqkern._C.text.
#pragma once

#include <pybind11/pybind11.h>

namespace seqkern::text {

void bind(pybind11::module_& module);

}  // namespace seqkern::text
