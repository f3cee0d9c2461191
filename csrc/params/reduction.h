// How the losses of rows or examples become one, in the order of the ops' argument `reduction`.
#pragma once

namespace seqkern {

enum class Reduction { none, mean, sum };

}  // namespace seqkern
