#include "base/memory.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

namespace thimble {

int64_t PeakRssBytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

void AdviseHugePages(void* p, size_t bytes) {
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(p) + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

void KeepFreedMemory(int64_t expected) {
#if defined(__GLIBC__)
  constexpr int kMost = INT_MAX;  // of what mallopt takes
  mallopt(M_MMAP_THRESHOLD, kMost);
  mallopt(M_TRIM_THRESHOLD, kMost);
  // What is touched for the first time later lies where this was.
  const size_t bytes = static_cast<size_t>(std::clamp<int64_t>(expected, 0, kMost - (64 << 20)));
  void* const p = std::malloc(bytes);
  if (p == nullptr) return;
  AdviseHugePages(p, bytes);
  std::free(p);
#else
  (void)expected;
#endif
}

}  // namespace thimble
