#include "kernels/neon/simd.h"

#include "kernels/generic/rows.inc"
