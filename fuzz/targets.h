// What damaged files must not do to us. A target takes a file's bytes, loads them as the program would, and
// uses what came of it. libFuzzer drives one target per program (libfuzzer_main.cc); bad_input.cc drives them
// all.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thimble {

struct FuzzTarget {
  const char* name;
  // The name that the bytes get on disk, relative to a scratch folder; errors must name it.
  const char* file;
  // Loads and uses the file at `path`.
  Status (*load)(const std::string& path);
};

std::span<const FuzzTarget> FuzzTargets();
const FuzzTarget* FindFuzzTarget(std::string_view name);

// A folder with a small model (a copy of tests/golden/models/llama) in which one file at a time is replaced.
// Removed with the object.
class FuzzScratch {
 public:
  explicit FuzzScratch(const FuzzTarget& target);
  ~FuzzScratch();
  FuzzScratch(const FuzzScratch&) = delete;
  FuzzScratch& operator=(const FuzzScratch&) = delete;

  const std::string& path() const { return path_; }
  // Puts the bytes in the target's place and loads them.
  Status Load(std::string_view bytes) const;

 private:
  const FuzzTarget& target_;
  std::string folder_, path_;
};

}  // namespace thimble
