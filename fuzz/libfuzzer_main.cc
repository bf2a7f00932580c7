// One target under libFuzzer: FUZZ_TARGET is its name.
#include <cstdint>

#include "base/check.h"
#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const thimble::FuzzScratch scratch(*thimble::FindFuzzTarget(FUZZ_TARGET));
  const auto status = scratch.Load({reinterpret_cast<const char*>(data), size});
  CHECK(status || !status.error().message.empty());
  return 0;
}
