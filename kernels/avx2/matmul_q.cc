#include "kernels/avx2/bytes.h"

#include "kernels/generic/matmul_q.inc"
