// Long work reports here; apps draw it. The library never prints.
#pragma once

#include <functional>
#include <string>

namespace thimble {

struct Progress {
  std::string stage;  // e.g. "quantize"
  double done = 0;    // in `unit`
  double total = 0;   // 0 if unknown
  std::string unit;   // e.g. "MB", "tokens", "steps"
  std::string note;   // e.g. "loss 1.234", may be empty
};

// Called now and then from the thread that started the work. Returns false to cancel: the work stops soon,
// with ErrorCode::kCancelled and nothing half-written.
using ProgressFn = std::function<bool(const Progress&)>;

}  // namespace thimble
