#include "kernels/avx2/simd.h"

#include "kernels/generic/attention.inc"
