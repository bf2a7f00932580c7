// AVX2 with AVX-VNNI: processors without AVX-512 that have its dot product. The rest is as in kernels/avx2.
#define THIMBLE_TIER avx_vnni
#include "kernels/avx2/lanes.h"

#include "kernels/generic/matmul_q.inc"
