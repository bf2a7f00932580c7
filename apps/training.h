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

  void AddOutput(CLI::App& command);
  void AddOptimizer(CLI::App& command);
  void AddRun(CLI::App& command);
  // Into options: what was given as text.
  Status Resolve();
};

// OUTPUT/log.jsonl, and TensorBoard's file if it is wanted.
class RunLog {
 public:
  // For TrainJob::on_start, once: opens the files and prints the plan; `what` describes what is trained. The
  // flags must live as long.
  std::function<Status(const TrainPlan&)> OnStart(const TrainingFlags& flags, const std::string& what);
  // For Train.
  StepLogFn OnStep();

 private:
  Status Open(const TrainingFlags& flags, int64_t first_step);
  void Append(const Json& entry);
  std::optional<TrainLog> log_;
  std::optional<TensorBoardLog> tensorboard_;
};

// "lora, rank 8"; `targets` as given.
std::string Describe(const PeftOptions& peft, const std::string& targets);
void PrintSummary(const TrainSummary& summary);
// OUTPUT/adapter.gguf, of the adapter that is in OUTPUT.
Status WriteGgufBeside(const std::string& output, const Model& model);

}  // namespace thimble
