// What each tier hands to dispatch.cc: functions that fill their part of a table. Internal to kernels/.
#pragma once

#include "kernels/kernels.h"

#define THIMBLE_DECLARE_TIER(tier)      \
  namespace tier {                      \
  void FillGemm(KernelTable* table);    \
  void FillRows(KernelTable* table);    \
  void FillDecode(KernelTable* table);  \
  void FillMatmulQ(KernelTable* table); \
  void FillPeak(KernelTable* table);    \
  }

namespace thimble {

THIMBLE_DECLARE_TIER(ref)
THIMBLE_DECLARE_TIER(avx2)
THIMBLE_DECLARE_TIER(avx512)

}  // namespace thimble
