#include "kernels/neon/simd.h"

#include "kernels/generic/round.inc"
