#include "apps/training.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "model/adapter.h"

namespace thimble {
namespace {

void PrintPlan(const TrainPlan& plan, const TrainingFlags& f, const std::string& what) {
  const TrainOptions& o = f.options;
  fmt::print("{} of {} parameters trained ({:.2f} %), {}\n", plan.n_parameters, plan.n_base_parameters,
             100.0 * static_cast<double>(plan.n_parameters) / static_cast<double>(plan.n_base_parameters),
             what);
  fmt::print("steps: {} ({} per epoch), warm-up {}, learning rate {} {}\n", plan.n_steps,
             plan.steps_per_epoch, plan.warmup_steps, o.learning_rate, f.schedule);
  const auto bytes = [](int64_t n) { return HumanBytes(n); };
  fmt::print("memory: about {}{}{}\n", bytes(plan.checkpoints ? plan.memory_checkpointed : plan.memory),
             plan.checkpoints
                 ? fmt::format(", with gradient checkpointing; {} without", bytes(plan.memory))
                 : fmt::format("; {} with gradient checkpointing", bytes(plan.memory_checkpointed)),
             o.max_ram > 0 && !plan.integer_gradients ? "; no integer gradients" : "");
  if (plan.first_step > 0) fmt::print("resumed after step {}\n", plan.first_step);
  std::fflush(stdout);
}

// A picture of one line: mean values of equal parts of the run, from the least (▁) to the greatest (█).
std::string Curve(const TrainSummary& s, const char* key) {
  constexpr size_t kWidth = 60;
  std::vector<double> values;
  for (const Json& entry : s.log) {
    if (const auto value = entry.find(key); value != entry.end()) values.push_back(value->get<double>());
  }
  std::vector<double> means(std::min(values.size(), kWidth));
  for (size_t i = 0; i < means.size(); ++i) {
    const size_t begin = i * values.size() / means.size(), end = (i + 1) * values.size() / means.size();
    for (size_t j = begin; j < end; ++j) means[i] += values[j] / static_cast<double>(end - begin);
  }
  if (means.size() < 2) return "";
  const auto [least, greatest] = std::ranges::minmax(means);
  std::string curve;
  for (const double mean : means) {
    const double height = greatest > least ? (mean - least) / (greatest - least) : 0;
    const int level = static_cast<int>(std::lround(7 * height));
    curve += "\xe2\x96";  // U+2581 to U+2588
    curve += static_cast<char>(0x81 + level);
  }
  return curve;
}

}  // namespace

void TrainingFlags::AddOutput(CLI::App& command) {
  command.add_option("-o,--output", output, "Folder for the adapter, the log and the checkpoints")
      ->required();
}

void TrainingFlags::AddOptimizer(CLI::App& command) {
  TrainOptions& o = options;
  command.add_option("--learning-rate,--lr", o.learning_rate, "Of each step, at its largest")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option(
          "--optim", o.optimizer.name,
          "adamw, or adafactor, which remembers a number per row and column in place of two per parameter")
      ->check(CLI::IsMember({"adamw", "adafactor"}))
      ->capture_default_str();
  command
      .add_option("--weight-decay", o.optimizer.weight_decay,
                  "Share of each parameter, times the rate, taken away")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--lr-scheduler", schedule, "How the rate falls after the warm-up")
      ->check(CLI::IsMember({"constant", "linear", "cosine"}))
      ->capture_default_str();
  auto* steps =
      command.add_option("--warmup-steps", o.warmup_steps, "Steps over which the rate rises from 0")
          ->check(CLI::NonNegativeNumber)
          ->capture_default_str();
  command.add_option("--warmup-ratio", o.warmup_ratio, "The same as a share of all steps")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(steps);
  command.add_option("--max-grad-norm", o.max_grad_norm, "Gradients are shortened to this norm; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--batch-size", o.batch_size, "Examples run at once")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      .add_option("--gradient-accumulation-steps", o.gradient_accumulation,
                  "Batches per step: the same result as a larger batch, in the memory of a small one")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command.add_flag("--gradient-checkpointing", o.grad_checkpoint,
                   "Keep less and compute it again: much less memory, a third more time, the same result");
  command.add_option(
      "--max-ram", max_ram,
      "Memory of the whole process at most, e.g. 600MB: checkpoints if it must, and says before the first "
      "step if that is not enough");
}

void TrainingFlags::AddRun(CLI::App& command) {
  TrainOptions& o = options;
  command.add_option("--epochs", o.epochs, "Times through the data; fractions are fine")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--max-steps", o.max_steps, "Steps, instead of epochs")->check(CLI::NonNegativeNumber);
  command
      .add_option("--eval-steps", o.eval_steps,
                  "Measure --eval-data every so many steps (default: at the end)")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--save-steps", o.save_steps,
                  "Save a checkpoint every so many steps (default: only when interrupted)")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--early-stopping-patience", o.early_stopping_patience,
                  "Stop after so many evaluations without a smaller loss, and keep the best adapter")
      ->check(CLI::PositiveNumber);
  command.add_option("--logging-dir", logging_dir, "Also write the curves there for TensorBoard");
  command.add_option("--resume", resume, "A checkpoint to go on from, with the same data and options");
  command.add_option("-s,--seed", o.seed, "Of the first weights, the order of examples and dropout")
      ->capture_default_str();
  command.add_flag("--gguf", gguf, "Also write the adapter as GGUF, for llama.cpp: OUTPUT/adapter.gguf");
}

Status TrainingFlags::Resolve() {
  options.schedule = *ParseSchedule(schedule);
  if (!max_ram.empty()) {
    ASSIGN_OR_RETURN(const uint64_t bytes, ParseBytes("--max-ram", max_ram));
    options.max_ram = static_cast<int64_t>(bytes);
  }
  return {};
}

std::function<Status(const TrainPlan&)> RunLog::OnStart(const TrainingFlags& flags, const std::string& what) {
  return [this, &flags, what](const TrainPlan& plan) -> Status {
    RETURN_IF_ERROR(Open(flags, plan.first_step));
    PrintPlan(plan, flags, what);
    return {};
  };
}

StepLogFn RunLog::OnStep() {
  return [this](const Json& entry) { Append(entry); };
}

Status RunLog::Open(const TrainingFlags& flags, int64_t first_step) {
  ASSIGN_OR_RETURN(log_, TrainLog::Open(flags.output + "/log.jsonl", first_step));
  if (flags.logging_dir.empty()) return {};
  ASSIGN_OR_RETURN(tensorboard_, TensorBoardLog::Open(flags.logging_dir));
  return {};
}

void RunLog::Append(const Json& entry) {
  if (!log_) return;  // of another rank than the first
  log_->Append(entry);
  if (!tensorboard_) return;
  for (const auto& [name, tag] : {std::pair{"loss", "train/loss"},
                                  {"grad_norm", "train/grad_norm"},
                                  {"learning_rate", "train/learning_rate"},
                                  {"eval_loss", "eval/loss"}}) {
    if (const auto value = entry.find(name); value != entry.end()) {
      tensorboard_->Append(entry.at("step").get<int64_t>(), tag, value->get<double>());
    }
  }
}

std::string Describe(const PeftOptions& o, const std::string& targets) {
  const MethodRow& row = *FindMethod(o.method);
  std::string text = o.method;
  if ((row.heeds & MethodRow::kRank) != 0) text += fmt::format(", rank {}", o.rank);
  if ((row.heeds & MethodRow::kVirtualTokens) != 0)
    text += fmt::format(", {} virtual tokens", o.n_virtual_tokens);
  if ((row.heeds & MethodRow::kBottleneck) != 0) text += fmt::format(", size {}", o.bottleneck_size);
  return targets.empty() ? text : text + ", " + targets;
}

void PrintSummary(const TrainSummary& s) {
  fmt::print("{} steps in {:.1f} s ({:.0f} tokens/s), loss {:.4f} -> {:.4f}\n", s.steps, s.seconds,
             s.tokens_per_second, s.first_loss, s.last_loss);
  for (const auto& [name, key] : {std::pair("loss", "loss"), std::pair("evaluation loss", "eval_loss")}) {
    if (const std::string curve = Curve(s, key); !curve.empty()) fmt::print("{}: {}\n", name, curve);
  }
  if (s.stopped_early) fmt::print("stopped early: the evaluation loss no longer fell\n");
  if (s.eval_loss_before && s.eval_loss) {
    fmt::print("evaluation loss {:.4f} -> {:.4f}\n", *s.eval_loss_before, *s.eval_loss);
  } else if (s.eval_loss) {
    fmt::print("evaluation loss {:.4f}\n", *s.eval_loss);
  }
  fmt::print("saved: {}\n", s.output);
}

Status WriteGgufBeside(const std::string& output, const Model& model) {
  ASSIGN_OR_RETURN(const Adapter adapter, LoadAdapter(output, model));
  RETURN_IF_ERROR(SaveGgufAdapter(adapter, model, output + "/adapter.gguf"));
  fmt::print("adapter: {}/adapter.gguf\n", output);
  return {};
}

}  // namespace thimble
