// NEON with SDOT, compiled for ARMv8.2 with the dot product extension. The rest is as in kernels/neon.
#define THIMBLE_TIER neon_dotprod
#include "kernels/neon/bytes.h"

#include "kernels/generic/matmul_q.inc"
