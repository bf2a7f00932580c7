#include "kernels/avx512/bytes.h"

#include "kernels/generic/matmul_q.inc"
