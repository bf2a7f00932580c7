#include "kernels/avx2/bytes.h"

#include "kernels/generic/activations.inc"
