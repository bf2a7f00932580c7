#include "kernels/avx512/lanes.h"

#include "kernels/generic/peak.inc"
