#include "kernels/avx512/lanes.h"

#include "kernels/generic/matmul_q.inc"
