#include "kernels/avx512/bytes.h"

#include "kernels/generic/decode.inc"
