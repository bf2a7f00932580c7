#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace thimble {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "thimble: internal error at %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace thimble
