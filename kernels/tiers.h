// What each tier hands to dispatch.cc: functions that fill their part of a table. Internal to kernels/.
#pragma once

#include "kernels/kernels.h"

#define THIMBLE_DECLARE_TIER(tier)          \
  namespace tier {                          \
  void FillGemm(KernelTable* table);        \
  void FillRows(KernelTable* table);        \
  void FillDecode(KernelTable* table);      \
  void FillActivations(KernelTable* table); \
  void FillMatmulQ(KernelTable* table);     \
  void FillAttention(KernelTable* table);   \
  void FillRound(KernelTable* table);       \
  void FillPeak(KernelTable* table);        \
  }

namespace thimble {

THIMBLE_DECLARE_TIER(ref)
THIMBLE_DECLARE_TIER(avx2)
THIMBLE_DECLARE_TIER(avx_vnni)
THIMBLE_DECLARE_TIER(avx512)
namespace avx512 {
void FillMatmulF16(KernelTable* table);
}
THIMBLE_DECLARE_TIER(avx512_vbmi)
namespace avx512_bf16 {
void FillMatmulBf16(KernelTable* table);
}
namespace amx {
void FillMatmulQ(KernelTable* table);
void FillMatmulBf16(KernelTable* table);
void FillPeak(KernelTable* table);
}  // namespace amx
namespace amx_emulated {  // for tests
void FillMatmulQ(KernelTable* table);
void FillMatmulBf16(KernelTable* table);
}  // namespace amx_emulated
THIMBLE_DECLARE_TIER(neon)
THIMBLE_DECLARE_TIER(neon_dotprod)
THIMBLE_DECLARE_TIER(neon_i8mm)

}  // namespace thimble
