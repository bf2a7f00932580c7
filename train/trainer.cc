#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "formats/model_hash.h"
#include "train/checkpoint.h"
#include "train/memory_plan.h"

namespace thimble {
namespace {

std::unique_ptr<Optimizer> OptimizerFor(const Method& method, const OptimizerOptions& options) {
  std::vector<Tensor> parameters;
  std::vector<double> rates;
  for (const Parameter& p : method.parameters()) {
    parameters.push_back(p.value);
    rates.push_back(p.learning_rate);
  }
  return MakeOptimizer(std::move(parameters), std::move(rates), options);
}

constexpr const char* kIntegerGradients = "integer_gradients";  // of a checkpoint's options

// What must not change between a run and its continuation.
// (More steps are fine; how many there are decides the schedule, but not what the checkpoint holds.)
Json ResumeKey(const PeftOptions& peft, const TrainOptions& o, const Dataset& data, Compute compute) {
  return {{"method", peft.method},
          {"rank", peft.rank},
          {"alpha", peft.alpha},
          {"rslora", peft.rslora},
          {"dropout", peft.dropout},
          {"loraplus_lr_ratio", peft.loraplus_lr_ratio},
          {"start", static_cast<int>(peft.start)},
          {"learning_rate", o.learning_rate},
          {"schedule", static_cast<int>(o.schedule)},
          {"warmup_steps", o.warmup_steps},
          {"warmup_ratio", o.warmup_ratio},
          {"optimizer", o.optimizer.name},
          {"weight_decay", o.optimizer.weight_decay},
          {"max_grad_norm", o.max_grad_norm},
          {"batch_size", o.batch_size},
          {"gradient_accumulation", o.gradient_accumulation},
          {"max_seq_length", o.max_seq_length},
          {"pack", o.pack},
          {"compute", Name(compute)},
          {"n_examples", data.examples.size()},
          {"n_tokens", data.n_tokens}};
}

// Hands out the batches of each optimizer step, epoch after epoch; the order depends on the seed alone.
class BatchFeed {
 public:
  BatchFeed(const Ranks& ranks, const Dataset& data, const TrainOptions& options)
      : ranks_(ranks), data_(data), options_(options) {}

  int64_t StepsPerEpoch() const {
    const auto batches = Deal(0);
    return (static_cast<int64_t>(batches.size()) + options_.gradient_accumulation - 1) /
           options_.gradient_accumulation;
  }
  // This rank's part of them: as many as there are on every rank, but some may be empty.
  std::vector<TrainBatch> Next() {
    std::vector<TrainBatch> step;
    if (next_ == epoch_batches_.size()) {
      epoch_batches_ = Deal(epoch_++);
      next_ = 0;
    }
    for (int64_t i = 0; i < options_.gradient_accumulation && next_ < epoch_batches_.size(); ++i) {
      step.push_back(MakeBatch(Part(epoch_batches_[next_++])));
    }
    return step;
  }

 private:
  std::vector<std::vector<const Example*>> Deal(uint64_t epoch) const {
    return DealBatches(data_, options_.batch_size, options_.pack, options_.max_seq_length,
                       options_.seed * 1000003 + epoch);
  }
  // Examples go to the rank that has the fewest tokens so far.
  std::vector<const Example*> Part(const std::vector<const Example*>& batch) const {
    std::vector<int64_t> n_tokens(static_cast<size_t>(ranks_.size()));
    std::vector<const Example*> part;
    for (const Example* example : batch) {
      const auto least = std::min_element(n_tokens.begin(), n_tokens.end());
      *least += std::ssize(example->tokens);
      if (least - n_tokens.begin() == ranks_.rank()) part.push_back(example);
    }
    return part;
  }

  const Ranks& ranks_;
  const Dataset& data_;
  const TrainOptions& options_;
  std::vector<std::vector<const Example*>> epoch_batches_;
  size_t next_ = 0;
  uint64_t epoch_ = 0;
};

// A run from its first to its last step.
class TrainRun {
 public:
  TrainRun(const Context& ctx, const TrainJob& job, const ProgressFn& progress, const StepLogFn& log)
      : job_(job),
        options_(job.options),
        method_(job.method),
        progress_(progress),
        log_(log),
        compute_(ctx.compute),
        ranks_(ctx.ranks),
        trainer_(ctx, job.method, options_, job.teacher),
        feed_(ctx.ranks, job.data, options_) {}

  Result<TrainSummary> Run() {
    if (options_.early_stopping_patience > 0 && (job_.eval_data == nullptr || options_.eval_steps == 0)) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          "early stopping needs data to evaluate and a number of steps between evaluations (--eval-data, "
          "--eval-steps)");
    }
    TrainPlan plan = MakePlan();
    total_ = plan.n_steps;
    warmup_ = plan.warmup_steps;
    if (!job_.resume.empty()) {
      ASSIGN_OR_RETURN(plan.first_step, Resume());
    }
    RETURN_IF_ERROR(PlanMemoryOf(plan));
    if (plan.first_step >= total_ && !job_.resume.empty()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: stands at step {} of {}; ask for more steps or epochs", job_.resume,
                       plan.first_step, total_);
    }
    RETURN_IF_ERROR(Agree(plan.first_step));
    if (ranks_.first()) RETURN_IF_ERROR(CreateOutput());
    notes_ = job_.notes;
    notes_[kMethodNote] = method_.options().method;
    notes_[kBaseNote] = Fingerprint(method_.base().file());
    method_.set_notes(notes_);
    if (job_.on_start && ranks_.first()) RETURN_IF_ERROR(job_.on_start(plan));
    int64_t step = plan.first_step;
    if (job_.eval_data != nullptr) eval_batches_ = EvalBatches(*job_.eval_data, options_);
    if (step == 0) summary_.eval_loss_before = Evaluate(0);
    for (; step < total_; ++step) {
      RETURN_IF_ERROR(OneStep(step));
      const bool last = step + 1 == total_;
      if (options_.eval_steps > 0 && (step + 1) % options_.eval_steps == 0 && !last) {
        RETURN_IF_ERROR(Judge(step + 1, *Evaluate(step + 1)));
        if (summary_.stopped_early) return Finish(step + 1 - plan.first_step);
      }
      if (options_.save_steps > 0 && (step + 1) % options_.save_steps == 0 && !last) {
        RETURN_IF_ERROR(Checkpoint(step + 1));
      }
    }
    summary_.eval_loss = Evaluate(total_);
    if (options_.early_stopping_patience > 0) {
      RETURN_IF_ERROR(Judge(total_, *summary_.eval_loss));
    } else {
      RETURN_IF_ERROR(Save(total_, summary_.eval_loss));
    }
    return Finish(total_ - plan.first_step);
  }

 private:
  Result<TrainSummary> Finish(int64_t n_steps) {
    if (options_.early_stopping_patience > 0) summary_.eval_loss = best_;
    summary_.steps = n_steps;
    summary_.n_parameters = method_.n_parameters();
    if (summary_.seconds > 0)
      summary_.tokens_per_second = static_cast<double>(summary_.n_tokens) / summary_.seconds;
    summary_.output = method_.SavedPath(job_.output);
    if (ranks_.first()) RETURN_IF_ERROR(WriteSummary());
    return std::move(summary_);
  }

  Status WriteSummary() const {
    int64_t saved_bytes = 0;
    std::error_code ec;
    for (const auto& file : std::filesystem::directory_iterator(job_.output, ec)) {
      const std::string name = file.path().filename();
      if (name == "model.gguf" || name.ends_with(".safetensors"))
        saved_bytes += static_cast<int64_t>(file.file_size(ec));
    }
    Json json = {{"method", method_.options().method},
                 {"base", method_.base().file().path},
                 {"compute", Name(compute_)},
                 {"n_parameters", summary_.n_parameters},
                 {"saved_bytes", saved_bytes},
                 {"steps", resumed_.step + summary_.steps},
                 {"tokens", resumed_.n_tokens + summary_.n_tokens},
                 {"seconds", resumed_.seconds + summary_.seconds},
                 {"peak_rss_bytes", PeakRssBytes()}};
    if (summary_.eval_loss) json["eval_loss"] = *summary_.eval_loss;
    return WriteFileAtomically(job_.output + "/" + kTrainSummaryFile, DumpJson(json, 2) + "\n");
  }

  // Ranks that were started with other data or options would wait for each other in vain.
  Status Agree(int64_t first_step) const {
    Json mine = Key();
    mine["first_step"] = first_step;
    mine["seed"] = options_.seed;
    const std::vector<std::string> keys = ranks_.Gather(DumpJson(mine));
    for (size_t rank = 1; rank < keys.size(); ++rank) {
      if (keys[rank] == keys[0]) continue;
      return MakeError(ErrorCode::kInvalidArgument, "rank {} has other data or options ({}) than rank 0 ({})",
                       rank, keys[rank], keys[0]);
    }
    return {};
  }

  Status Save(int64_t step, std::optional<double> eval_loss) {
    if (!ranks_.first()) return {};
    if (eval_loss) notes_["thimble.eval_loss"] = fmt::format("{:.6g}", *eval_loss);
    notes_["thimble.steps"] = fmt::format("{}", step);
    method_.set_notes(notes_);
    return method_.Save(job_.output);
  }

  // With early stopping: saves what is the best so far, or counts.
  Status Judge(int64_t step, double eval_loss) {
    if (options_.early_stopping_patience == 0) return {};
    if (eval_loss < best_) {
      best_ = eval_loss;
      n_worse_ = 0;
      return Save(step, eval_loss);
    }
    summary_.stopped_early = ++n_worse_ >= options_.early_stopping_patience && step < total_;
    return {};
  }

  TrainPlan MakePlan() const {
    TrainPlan plan{.n_parameters = method_.n_parameters(), .steps_per_epoch = feed_.StepsPerEpoch()};
    for (const TensorInfo& tensor : method_.base().file().tensors())
      plan.n_base_parameters += tensor.n_elements();
    const double by_epochs = options_.epochs * static_cast<double>(plan.steps_per_epoch);
    plan.n_steps =
        options_.max_steps > 0 ? options_.max_steps : std::max<int64_t>(1, std::llround(by_epochs));
    plan.warmup_steps =
        options_.warmup_steps > 0
            ? options_.warmup_steps
            : static_cast<int64_t>(std::ceil(options_.warmup_ratio * static_cast<double>(plan.n_steps)));
    return plan;
  }

  Status PlanMemoryOf(TrainPlan& plan) {
    const MemoryPlan memory = PlanMemory(trainer_, job_.data, options_);
    const auto fits = [&](int64_t bytes) { return options_.max_ram == 0 || bytes <= options_.max_ram; };
    options_.grad_checkpoint = options_.grad_checkpoint || !fits(memory.plain);
    const int64_t without = options_.grad_checkpoint ? memory.checkpointed : memory.plain;
    const bool wanted = options_.integer_gradients;
    options_.integer_gradients =
        wanted && memory.integer_gradients > 0 && fits(without + memory.integer_gradients);
    double n_without = options_.integer_gradients ? 0 : 1;  // ranks
    ranks_.Sum({&n_without, 1});
    options_.integer_gradients = n_without == 0;
    trainer_.set_integer_gradients(options_.integer_gradients);
    if (!job_.resume.empty() && wanted && !options_.integer_gradients) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: was made with gradients by integer products, {}",
                       job_.resume,
                       memory.integer_gradients > 0 ? "for which --max-ram is too little here"
                                                    : "which this processor's kernels do not have");
    }
    const int64_t more = options_.integer_gradients ? memory.integer_gradients : 0;
    plan.memory = memory.plain + more;
    plan.memory_checkpointed = memory.checkpointed + more;
    plan.checkpoints = options_.grad_checkpoint;
    plan.integer_gradients = options_.integer_gradients;
    KeepFreedMemory(options_.grad_checkpoint ? plan.memory_checkpointed : plan.memory);
    // While there are no activations yet, weights are transposed in memory that these take later.
    if (plan.integer_gradients) trainer_.MeasureTensors(1, true);
    if (fits(memory.checkpointed)) return {};
    constexpr double kMegabyte = 1e6;
    return MakeError(
        ErrorCode::kInvalidArgument,
        "about {:.0f} MB would be needed, {:.0f} MB more than --max-ram, even with gradient checkpointing; a "
        "smaller --batch-size with --gradient-accumulation-steps, or a shorter --max-seq-length, takes less",
        static_cast<double>(memory.checkpointed) / kMegabyte,
        static_cast<double>(memory.checkpointed - options_.max_ram) / kMegabyte);
  }

  Result<int64_t> Resume() {
    ASSIGN_OR_RETURN(const TrainState state, LoadCheckpoint(job_.resume, method_, trainer_.optimizer()));
    Json mine = Key(), its = state.options;
    mine.erase(kIntegerGradients);
    if (its.is_object()) {
      options_.integer_gradients = its.contains(kIntegerGradients) && its[kIntegerGradients] == true;
      its.erase(kIntegerGradients);
    }
    if (state.seed != options_.seed || DumpJson(its) != DumpJson(mine)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: was made with other data or options ({}); resume with the same ones", job_.resume,
                       DumpJson(state.options));
    }
    for (int64_t i = 0; i < state.step; ++i) feed_.Next();
    resumed_ = state;
    // The best adapter so far is in that run's folder.
    if (std::filesystem::path(job_.resume).lexically_normal().parent_path() ==
        std::filesystem::path(job_.output).lexically_normal()) {
      best_ = state.best_eval_loss.value_or(best_);
      n_worse_ = state.n_worse;
    }
    return state.step;
  }

  Json Key() const {
    Json key = ResumeKey(method_.options(), options_, job_.data, compute_);
    key["teacher"] = job_.teacher != nullptr ? Json{{"hidden_weight", job_.teacher->hidden_weight}} : Json();
    key[kIntegerGradients] = options_.integer_gradients;
    return key;
  }

  Status OneStep(int64_t step) {
    const double rate = options_.learning_rate * ScheduleFactor(options_.schedule, step, warmup_, total_);
    const double begin = Seconds();
    const StepResult result = trainer_.Step(feed_.Next(), rate);
    summary_.seconds += Seconds() - begin;
    summary_.n_tokens += result.n_tokens;
    if (summary_.n_tokens == result.n_tokens)
      summary_.first_loss = result.loss;  // the first step of this run
    summary_.last_loss = result.loss;
    Log({{"step", step + 1},
         {"loss", result.loss},
         {"grad_norm", result.grad_norm},
         {"learning_rate", rate},
         {"tokens", result.n_tokens},
         {"seconds", Seconds() - begin}});
    if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "step {}: the loss is not finite; try a smaller learning rate than {}", step + 1,
                       options_.learning_rate);
    }
    const bool go_on = !progress_ || progress_({.stage = "tune",
                                                .done = static_cast<double>(step + 1),
                                                .total = static_cast<double>(total_),
                                                .unit = "steps",
                                                .note = Note(result.loss)});
    double n_stopping = go_on ? 0 : 1;
    ranks_.Sum({&n_stopping, 1});
    if (n_stopping == 0 || step + 1 == total_)
      return {};  // after the last step, the adapter itself is what is to be saved
    RETURN_IF_ERROR(Checkpoint(step + 1));
    return MakeError(ErrorCode::kCancelled, "interrupted after step {}; go on with --resume {}", step + 1,
                     CheckpointPath(step + 1));
  }

  std::string Note(double loss) const {
    return fmt::format("loss {:.4f}, {:.0f} tokens/s", loss,
                       static_cast<double>(summary_.n_tokens) / std::max(summary_.seconds, 1e-9));
  }

  std::optional<double> Evaluate(int64_t step) {
    if (eval_batches_.empty()) return std::nullopt;
    const double loss = trainer_.Evaluate(eval_batches_);
    Log({{"step", step}, {"eval_loss", loss}});
    return loss;
  }

  void Log(Json entry) {
    if (log_) log_(entry);
    summary_.log.push_back(std::move(entry));
  }

  std::string CheckpointPath(int64_t step) const {
    return fmt::format("{}/checkpoint-{}", job_.output, step);
  }

  // Before the first step, so that a folder that cannot be written costs no training.
  Status CreateOutput() const {
    std::error_code ec;
    std::filesystem::create_directories(job_.output, ec);
    if (ec) return MakeError(ErrorCode::kIo, "{}: cannot create the folder: {}", job_.output, ec.message());
    return {};
  }

  Status Checkpoint(int64_t step) {
    if (ranks_.first()) {
      RETURN_IF_ERROR(SaveCheckpoint(
          CheckpointPath(step), method_, trainer_.optimizer(),
          {step, options_.seed, Key(), std::isfinite(best_) ? std::optional(best_) : std::nullopt, n_worse_,
           resumed_.seconds + summary_.seconds, resumed_.n_tokens + summary_.n_tokens}));
    }
    double none = 0;
    ranks_.Sum({&none, 1});  // it is whole when all come here
    if (job_.on_checkpoint) job_.on_checkpoint(CheckpointPath(step));
    return {};
  }

  const TrainJob& job_;
  TrainOptions options_;
  Method& method_;
  const ProgressFn& progress_;
  const StepLogFn& log_;
  const Compute compute_;
  Ranks& ranks_;
  Trainer trainer_;
  BatchFeed feed_;
  std::vector<TrainBatch> eval_batches_;
  TrainSummary summary_;
  AdapterNotes notes_;
  TrainState resumed_;      // or where there was nothing
  double best_ = INFINITY;  // evaluation loss, with early stopping
  int64_t n_worse_ = 0;     // evaluations since
  int64_t total_ = 0, warmup_ = 0;
};

}  // namespace

std::vector<TrainBatch> EvalBatches(const Dataset& data, const TrainOptions& o) {
  std::vector<TrainBatch> batches;
  for (const auto& examples : DealBatches(data, 1, true, o.max_seq_length, 0)) {
    batches.push_back(MakeBatch(examples));
  }
  return batches;
}

Trainer::Trainer(const Context& ctx, Method& method, const TrainOptions& options, const Teacher* teacher)
    : ctx_(ctx),
      method_(method),
      options_(options),
      teacher_(teacher),
      optimizer_(OptimizerFor(method, options.optimizer)) {
  ctx_.integer_gradients = options.integer_gradients;
}

LossResult Trainer::Loss(const Context& ctx, const TrainBatch& batch, const ForwardInput& input,
                         float gradient_scale) {
  const Tensor hidden = ForwardHidden(ctx, method_.model(), input);
  const Weight& output = method_.model().output();
  bytes_at_loss_ = TensorBytes();
  if (teacher_ == nullptr) return LinearCrossEntropy(ctx, output, hidden, batch.labels, gradient_scale);
  const AppliedAdapter applied{.adapter = teacher_->adapter};
  const Tensor taught = ForwardHidden(ctx_, teacher_->model,
                                      {.tokens = batch.tokens,
                                       .lengths = batch.lengths,
                                       .adapters = {&applied, applied.adapter != nullptr ? 1u : 0u}});
  if (ctx.tape != nullptr && teacher_->hidden_weight > 0) {
    HiddenStateError(ctx, hidden, taught, batch.labels,
                     gradient_scale * static_cast<float>(teacher_->hidden_weight));
  }
  return LinearKlDivergence(ctx, output, hidden, teacher_->model.output(), taught, batch.labels,
                            gradient_scale);
}

StepResult Trainer::Step(const std::vector<TrainBatch>& batches, double learning_rate) {
  double n_labels = 0;
  for (const TrainBatch& batch : batches) n_labels += static_cast<double>(batch.n_labels());
  ctx_.ranks.Sum({&n_labels, 1});
  StepResult result{.learning_rate = learning_rate, .n_labels = static_cast<int64_t>(n_labels)};
  const uint64_t step_seed = options_.seed * 0x2545f4914f6cdd1dull +
                             static_cast<uint64_t>(optimizer_->n_steps()) * 4096 +
                             static_cast<uint64_t>(ctx_.ranks.rank()) * 0x9e3779b97f4a7c15ull;
  method_.UpdateAdapter(ctx_);
  for (size_t i = 0; i < batches.size(); ++i) {
    if (batches[i].tokens.empty()) continue;
    const double share = static_cast<double>(batches[i].n_labels()) / std::max(1.0, n_labels);
    const AppliedAdapter applied{&method_.adapter(), 1, static_cast<float>(method_.options().dropout),
                                 step_seed + i};
    Backward(batches[i], applied, options_.grad_checkpoint, share, result);
  }
  method_.PassGradients(ctx_);
  SumOverRanks(result);
  result.grad_norm = optimizer_->GradNorm(ctx_.pool);
  const bool clip = options_.max_grad_norm > 0 && result.grad_norm > options_.max_grad_norm;
  optimizer_->Step(ctx_.pool, learning_rate, clip ? options_.max_grad_norm / (result.grad_norm + 1e-6) : 1);
  return result;
}

void Trainer::SumOverRanks(StepResult& result) {
  double sums[] = {result.loss, static_cast<double>(result.n_tokens)};
  ctx_.ranks.Sum(sums);
  result.loss = sums[0];
  result.n_tokens = static_cast<int64_t>(sums[1]);
  for (const Parameter& p : method_.parameters()) {
    ctx_.ranks.Sum({p.value.grad(), static_cast<size_t>(p.value.size())});
  }
}

void Trainer::Backward(const TrainBatch& batch, const AppliedAdapter& applied, bool checkpoint, double share,
                       StepResult& result) {
  Tape tape;
  Context ctx = ctx_;
  ctx.tape = &tape;
  const LossResult loss = Loss(
      ctx, batch,
      {.tokens = batch.tokens, .lengths = batch.lengths, .adapters = {&applied, 1}, .checkpoint = checkpoint},
      static_cast<float>(share));
  tape.Backward();
  result.loss += loss.mean_loss * share;
  result.n_tokens += static_cast<int64_t>(batch.tokens.size());
}

Trainer::TensorUse Trainer::MeasureTensors(int64_t n_tokens, bool checkpoint) {
  const auto n = static_cast<size_t>(n_tokens);
  TrainBatch batch{
      .tokens = std::vector<TokenId>(n), .labels = std::vector<TokenId>(n, -1), .lengths = {n_tokens}};
  batch.labels[0] = 0;
  const AppliedAdapter applied{&method_.adapter(), 1, static_cast<float>(method_.options().dropout), 0};
  StepResult ignored;
  method_.UpdateAdapter(ctx_);
  ResetPeakTensorBytes();
  Backward(batch, applied, checkpoint, 1, ignored);
  method_.PassGradients(ctx_);
  const TensorUse use{bytes_at_loss_, PeakTensorBytes()};
  for (const Parameter& p : method_.parameters()) p.value.ZeroGrad();
  return use;
}

int64_t Trainer::LogitsBytes(int64_t n_tokens) const {
  const Weight& output = method_.model().output();
  if (teacher_ == nullptr) return CrossEntropyBytes(ctx_, output, n_tokens);
  return 3 * std::min(n_tokens, kLossRows) * output.n_out * static_cast<int64_t>(sizeof(float));
}

int64_t Trainer::IntegerGradientBytes(int64_t n_tokens) const {
  const Model& model = method_.model();
  IntegerGradientUse use = IntegerGradientUseOf(ctx_, model.output(), std::min(n_tokens, kLossRows));
  for (const Layer& layer : model.layers()) {
    for (const Weight& w : layer.linear) {
      const IntegerGradientUse more = IntegerGradientUseOf(ctx_, w, n_tokens);
      use.packed += more.packed;
      use.at_once = std::max(use.at_once, more.at_once);
    }
  }
  return use.packed + use.at_once;
}

double Trainer::Evaluate(const std::vector<TrainBatch>& batches) {
  method_.UpdateAdapter(ctx_);
  const AppliedAdapter applied{.adapter = &method_.adapter()};
  double sums[] = {0, 0};  // loss, labels
  for (size_t i = 0; i < batches.size(); ++i) {
    if (!ctx_.ranks.Takes(static_cast<int64_t>(i))) continue;
    const TrainBatch& batch = batches[i];
    const LossResult loss =
        Loss(ctx_, batch, {.tokens = batch.tokens, .lengths = batch.lengths, .adapters = {&applied, 1}}, 1);
    sums[0] += loss.mean_loss * static_cast<double>(loss.n_labels);
    sums[1] += static_cast<double>(loss.n_labels);
  }
  ctx_.ranks.Sum(sums);
  return sums[1] > 0 ? sums[0] / sums[1] : 0;
}

Result<TrainSummary> Train(const Context& ctx, const TrainJob& job, const ProgressFn& progress,
                           const StepLogFn& log) {
  return TrainRun(ctx, job, progress, log).Run();
}

}  // namespace thimble
