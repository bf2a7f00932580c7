// What the commands that train share: the optimizer's and the run's flags, and what they print.
#pragma once

#include "apps/common.h"
#include "train/tensorboard.h"
#include "train/train_log.h"
#include "train/trainer.h"

namespace thimble {

struct TrainingFlags {
  TrainOptions options;
  std::string output, schedule = "cosine", resume, max_ram, logging_dir;
  bool gguf = false;

  void AddOptimizer(CLI::App& command);
  void AddRun(CLI::App& command);
  // Into options: what was given as text.
  Status Resolve();
};

// OUTPUT/log.jsonl, and TensorBoard's file if it is wanted.
class RunLog {
 public:
  Status Open(const TrainingFlags& flags, int64_t first_step);
  void Append(const Json& entry);

 private:
  std::optional<TrainLog> log_;
  std::optional<TensorBoardLog> tensorboard_;
};

// "lora, rank 8"; `targets` as given.
std::string Describe(const PeftOptions& peft, const std::string& targets);
void PrintPlan(const TrainPlan& plan, const TrainingFlags& flags, const std::string& what);
void PrintSummary(const TrainSummary& summary);
// OUTPUT/adapter.gguf, of the adapter that is in OUTPUT.
Status WriteGgufBeside(const std::string& output, const Model& model);

}  // namespace thimble
