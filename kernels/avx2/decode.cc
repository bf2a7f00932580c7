#include "kernels/avx2/bytes.h"

#include "kernels/generic/decode.inc"
