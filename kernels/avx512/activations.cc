#include "kernels/avx512/bytes.h"

#include "kernels/generic/activations.inc"
