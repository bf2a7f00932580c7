#include "kernels/avx2/lanes.h"

#include "kernels/generic/matmul_q.inc"
