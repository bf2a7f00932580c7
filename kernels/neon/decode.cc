#include "kernels/neon/bytes.h"

#include "kernels/generic/decode.inc"
