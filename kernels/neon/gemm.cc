#include "kernels/neon/simd.h"

#include "kernels/generic/gemm.inc"
