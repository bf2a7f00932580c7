#include "kernels/neon/simd.h"

#include "kernels/generic/attention.inc"
