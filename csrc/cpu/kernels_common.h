// What the CPU kernels use of the standard library and of headers that do not depend on the instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
