// AMX: sixteen activation rows meet a block of sixteen weight rows in one instruction. Few rows are
// multiplied as in kernels/avx512, whose layout of packed weights is also the one that tiles take.
#ifndef THIMBLE_TIER
#define THIMBLE_TIER amx
#endif
#include "kernels/amx/tiles.h"
#include "kernels/avx512/lanes.h"

#define THIMBLE_TILES
#include "kernels/generic/matmul_q.inc"
