#include "kernels/neon/lanes.h"

#include "kernels/generic/matmul_q.inc"
