// AVX-512 with VBMI: lookups by six bits. The rest is as in kernels/avx512.
#define THIMBLE_TIER avx512_vbmi
#include "kernels/avx512/lanes.h"

#include "kernels/generic/matmul_q.inc"
