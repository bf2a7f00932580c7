// The unit of kernels/amx over tiles in plain code. Linked by its test alone.
#define THIMBLE_TIER amx_emulated
#define THIMBLE_EMULATE_TILES
#include "kernels/amx/matmul_bf16.cc"
