#include "kernels/neon/bytes.h"

#include "kernels/generic/matmul_q.inc"
