// A training run's log.jsonl: one JSON object per step, for people, the report and other tools.
#pragma once

#include <fstream>
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace thimble {

class TrainLog {
 public:
  // Keeps the lines of steps up to `first_step` (of the run that is resumed) and drops the rest.
  static Result<TrainLog> Open(const std::string& path, int64_t first_step);
  // Each line is on disk when this returns, so that an interrupted run has its log.
  void Append(const Json& entry);

 private:
  explicit TrainLog(std::ofstream file) : file_(std::move(file)) {}
  std::ofstream file_;
};

}  // namespace thimble
