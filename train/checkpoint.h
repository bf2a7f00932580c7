// A training run's state on disk: the adapter (PEFT), the optimizer's moments, and where the run stood.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "train/method.h"
#include "train/optimizer.h"

namespace thimble {

struct TrainState {
  int64_t step = 0;
  uint64_t seed = 0;
  Json options;  // of the run; resuming with others is refused
  // With early stopping: the smallest evaluation loss so far, and evaluations since.
  std::optional<double> best_eval_loss = {};
  int64_t n_worse = 0;
  // What the steps so far took.
  double seconds = 0;
  int64_t n_tokens = 0;
};

Status SaveCheckpoint(const std::string& directory, const Method& method, const Optimizer& optimizer,
                      const TrainState& state);
// Fills the parameters and the moments in place; shapes must agree.
Result<TrainState> LoadCheckpoint(const std::string& directory, Method& method, Optimizer& optimizer);

}  // namespace thimble
