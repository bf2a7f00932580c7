// Parameter-efficient fine-tuning on a frozen base of any weight type.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/result.h"
#include "model/model.h"
#include "train/dataset.h"
#include "train/method.h"
#include "train/optimizer.h"

namespace thimble {

struct TrainOptions {
  double learning_rate = 2e-4;
  OptimizerOptions optimizer;
  Schedule schedule = Schedule::kCosine;
  int64_t warmup_steps = 0;
  double warmup_ratio = 0;   // of all steps, where warmup_steps is 0
  double max_grad_norm = 1;  // 0: no clipping
  int64_t batch_size = 4;
  int64_t gradient_accumulation = 1;
  int64_t max_seq_length = 512;
  bool pack = false;
  double epochs = 1;
  int64_t max_steps = 0;                   // > 0: instead of epochs
  int64_t eval_steps = 0, save_steps = 0;  // 0: at the end only
  // Stop after so many evaluations in a row without a smaller loss, and keep the adapter that had the
  // smallest; 0: never.
  int64_t early_stopping_patience = 0;
  // Where the process would take more: do without integer gradients, or checkpoint, which is slower, or both;
  // and do not start if even that is too much. 0: no limit. A resumed run keeps the gradients that it had.
  int64_t max_ram = 0;
  uint64_t seed = 42;
  bool grad_checkpoint = false;   // recompute each layer in the backward pass: less memory, a third more time
  bool integer_gradients = true;  // Context's, where products are integer ones: faster, more memory
};

struct StepResult {
  double loss = 0;       // mean over labels, nats
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t n_tokens = 0, n_labels = 0;
};

// A model whose predictions are to be learned.
struct Teacher {
  const Model& model;
  const Adapter* adapter = nullptr;  // on it, or null
  // Of the error of the last hidden states in the loss that is trained on, beside 1 for the predictions'
  // divergence; if it is not 0, both models have the same width.
  double hidden_weight = 0;
};

// One optimizer step at a time, for tests and for Train().
class Trainer {
 public:
  // The method's parameters are trained in place.
  // With a teacher, of the same vocabulary, the loss is the KL divergence of its predictions from the
  // model's, else the cross-entropy of the labels. Reported losses are of that alone.
  Trainer(const Context& ctx, Method& method, const TrainOptions& options, const Teacher* teacher = nullptr);
  // The batches of one step together are the batch: gradients are accumulated, weighted by their labels.
  // Of several ranks, each has a part of it.
  StepResult Step(const std::vector<TrainBatch>& batches, double learning_rate);
  // Mean loss per label without dropout or gradients. Ranks, which have the same batches, share the work.
  double Evaluate(const std::vector<TrainBatch>& batches);
  Optimizer& optimizer() { return *optimizer_; }
  int n_ranks() const { return ctx_.ranks.size(); }
  // Rows of activations that stand before each sequence's own.
  int64_t n_virtual_tokens() const { return method_.adapter().prompt ? method_.adapter().prompt.rows() : 0; }
  // Bytes that tensors take in a forward and backward pass of one sequence of n tokens of which one is
  // learned: when the loss is computed, and at most. Nothing is changed.
  struct TensorUse {
    int64_t at_loss = 0, most = 0;
  };
  TensorUse MeasureTensors(int64_t n_tokens, bool checkpoint);
  // What the logits of n tokens' loss take at once, with their gradients and the teacher's.
  int64_t LogitsBytes(int64_t n_tokens) const;
  // As TrainOptions has it, from the next step on; and what it takes where it is on.
  void set_integer_gradients(bool on) { ctx_.integer_gradients = on; }
  int64_t IntegerGradientBytes(int64_t n_tokens) const;

 private:
  void Backward(const TrainBatch& batch, const AppliedAdapter& applied, bool checkpoint, double share,
                StepResult& result);
  // The loss and the gradients of all ranks' parts.
  void SumOverRanks(StepResult& result);
  // At the labelled tokens. Backward adds gradient_scale times its gradient.
  LossResult Loss(const Context& ctx, const TrainBatch& batch, const ForwardInput& input,
                  float gradient_scale);
  Context ctx_;
  Method& method_;
  const TrainOptions& options_;
  const Teacher* teacher_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t bytes_at_loss_ = 0;
};

// All examples, for Trainer::Evaluate; packed to max_seq_length tokens, which take less memory than a step.
std::vector<TrainBatch> EvalBatches(const Dataset& data, const TrainOptions& options);

// What happened, for the log, the report and resuming: one JSON object per logged step.
using StepLogFn = std::function<void(const Json&)>;

// OUTPUT/summary.json: what a finished run was and cost, as JSON: method, base (path), compute, n_parameters,
// saved_bytes (of what was saved), steps, tokens and seconds (with what was resumed), peak_rss_bytes and, if
// measured, eval_loss.
inline constexpr const char* kTrainSummaryFile = "summary.json";

struct TrainSummary {
  std::string output;                                 // as --adapter takes it, or as MODEL
  int64_t steps = 0, n_tokens = 0, n_parameters = 0;  // of this run, without what it resumed
  double seconds = 0, tokens_per_second = 0;          // of training steps, evaluation not counted
  double first_loss = 0, last_loss = 0;
  std::optional<double> eval_loss_before, eval_loss;  // the latter of what is saved
  bool stopped_early = false;
  std::vector<Json> log;
};

// What a run will do, before its first step.
struct TrainPlan {
  int64_t n_parameters = 0, n_base_parameters = 0;
  int64_t steps_per_epoch = 0, n_steps = 0, warmup_steps = 0;
  int64_t first_step = 0;                       // > 0 where a run is resumed
  int64_t memory = 0, memory_checkpointed = 0;  // bytes, without and with checkpointing
  // As asked for, or as max_ram allows.
  bool checkpoints = false, integer_gradients = false;
};

// Trains and writes what was trained to `output` (an adapter in PEFT's format, or a model), with checkpoints
// in output/checkpoint-N from which `resume` goes on to the same losses. Cancelling (progress returns false)
// saves a checkpoint first. Ranks share each batch's examples; the first of them writes and calls on_start.
struct TrainJob {
  Method& method;
  const Dataset& data;
  const Dataset* eval_data = nullptr;
  TrainOptions options;
  std::string output;
  std::string resume = {};           // a checkpoint folder, or empty
  const Teacher* teacher = nullptr;  // Trainer's
  AdapterNotes notes = {};  // what the adapter's file will say beside the method, the base and the losses
  // Called once `output` exists and before anything is computed; its error ends the run.
  std::function<Status(const TrainPlan&)> on_start = {};
  // Called with the folder of each checkpoint once it is whole.
  std::function<void(const std::string&)> on_checkpoint = {};
};
// The heap keeps what is freed from here on (KeepFreedMemory).
Result<TrainSummary> Train(const Context& ctx, const TrainJob& job, const ProgressFn& progress,
                           const StepLogFn& log);

}  // namespace thimble
