// Stands in for torch's header of this name, where the CUDA ops run on the host.
#pragma once

#include <c10/util/Exception.h>

#include "cuda_runtime_api.h"

#define C10_CUDA_CHECK(launch) TORCH_CHECK((launch) == cudaSuccess, "a launch failed: " #launch)
