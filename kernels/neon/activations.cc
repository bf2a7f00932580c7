#include "kernels/neon/bytes.h"

#include "kernels/generic/activations.inc"
