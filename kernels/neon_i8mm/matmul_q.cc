// NEON with SMMLA, compiled for ARMv8.2 with the dot product and int8 matrix extensions. The rest is as in
// kernels/neon.
#define THIMBLE_TIER neon_i8mm
#include "kernels/neon/lanes.h"

#include "kernels/generic/matmul_q.inc"
