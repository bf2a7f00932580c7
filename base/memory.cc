#include "base/memory.h"

#include <sys/resource.h>

namespace thimble {

int64_t PeakRssBytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

}  // namespace thimble
