// What the commands that train share: the optimizer's and the run's flags, and what they print.
#pragma once

#include "apps/common.h"
#include "train/train_log.h"
#include "train/trainer.h"

namespace thimble {

struct TrainingFlags {
  TrainOptions options;
  std::string output, schedule = "cosine", resume;
  bool gguf = false;

  void AddOptimizer(CLI::App& command);
  void AddRun(CLI::App& command);
  // options.schedule, from its name.
  void Resolve() { options.schedule = *ParseSchedule(schedule); }
};

// "lora, rank 8"; `targets` as given.
std::string Describe(const PeftOptions& peft, const std::string& targets);
void PrintPlan(const TrainPlan& plan, const TrainingFlags& flags, const std::string& what);
void PrintSummary(const TrainSummary& summary);
// OUTPUT/adapter.gguf, of the adapter that is in OUTPUT.
Status WriteGgufBeside(const std::string& output, const Model& model);

}  // namespace thimble
