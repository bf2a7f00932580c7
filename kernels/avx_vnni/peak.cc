#define THIMBLE_TIER avx_vnni
#include "kernels/avx2/lanes.h"

#include "kernels/generic/peak.inc"
