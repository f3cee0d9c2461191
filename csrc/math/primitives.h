// The primitives of every activation, for scalars on the host and on CUDA devices.
//
// cpu/simd.h overloads them for SIMD vectors. It is included before the templates that call them (math/activations.h), since
// vector types belong to no namespace through which a later overload could be found.
#pragma once

#include <cmath>

#include "math/host_device.h"

namespace seqkern::math {

SEQKERN_HD float exp_value(float x) { return expf(x); }
SEQKERN_HD double exp_value(double x) { return ::exp(x); }
SEQKERN_HD float tanh_value(float x) { return tanhf(x); }
SEQKERN_HD double tanh_value(double x) { return ::tanh(x); }
SEQKERN_HD float log1p_value(float x) { return log1pf(x); }
SEQKERN_HD double log1p_value(double x) { return ::log1p(x); }
SEQKERN_HD float reciprocal(float x) { return 1 / x; }
SEQKERN_HD double reciprocal(double x) { return 1 / x; }

}  // namespace seqkern::math
