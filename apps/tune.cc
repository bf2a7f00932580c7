#include <fmt/core.h>

#include <filesystem>

#include "apps/common.h"
#include "train/train_log.h"
#include "train/trainer.h"

namespace thimble {
namespace {

struct Flags {
  std::string model, data, eval_data, output, targets, schedule = "cosine", resume;
  bool gguf = false;
  TrainOptions options;
  ComputeFlags compute;
  std::vector<std::pair<MethodRow::Heeds, std::vector<CLI::Option*>>>
      method_flags;  // what only some methods have
};

void AddDataFlags(CLI::App& command, Flags& f) {
  command.add_option("MODEL", f.model, "GGUF file or Hugging Face folder, of any weight type")->required();
  command
      .add_option("--data", f.data,
                  "JSONL with a \"text\", a \"prompt\" and \"completion\", or \"messages\" on each line")
      ->required();
  command.add_option("-o,--output", f.output, "Folder for the adapter, the log and the checkpoints")
      ->required();
  command.add_option("--eval-data", f.eval_data, "JSONL that is not learned: its loss is measured");
  command.add_option("--max-seq-length", f.options.max_seq_length, "Longer examples lose their end (tokens)")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command.add_flag(
      "--pack", f.options.pack,
      "Fill each batch with as many examples as fit into batch-size x max-seq-length tokens (they "
      "never see each other)");
}

void AddMethodFlags(CLI::App& command, Flags& f) {
  PeftOptions& peft = f.options.peft;
  std::vector<std::string> names;
  std::string what = "What is trained.";
  for (const MethodRow& row : Methods()) {
    names.emplace_back(row.name);
    what += fmt::format(" {}: {}.", row.name, row.what);
  }
  command.add_option("--method", peft.method, what)->check(CLI::IsMember(names))->capture_default_str();
  command.add_option("--target-modules", f.targets,
                     "Linear layers to adapt, e.g. q_proj,v_proj, or all-linear (default: all; of ia3 "
                     "k_proj,v_proj,down_proj; of bottleneck o_proj,down_proj)");
  auto* rank = command.add_option("--lora-r,--rank", peft.rank, "Rank of LoRA, DoRA or VeRA")
                   ->check(CLI::Range(1, 4096))
                   ->capture_default_str();
  auto* alpha = command.add_option("--lora-alpha", peft.alpha, "Its scale is alpha / rank")
                    ->check(CLI::PositiveNumber)
                    ->capture_default_str();
  auto* dropout =
      command.add_option("--lora-dropout", peft.dropout, "Share of its inputs dropped while training")
          ->check(CLI::Range(0.0, 0.95))
          ->capture_default_str();
  auto* rslora =
      command.add_flag("--use-rslora", peft.rslora, "Scale by alpha / sqrt(rank): for larger ranks");
  auto* ratio = command
                    .add_option("--loraplus-lr-ratio", peft.loraplus_lr_ratio,
                                "LoRA+: how many times faster B learns than A, e.g. 16")
                    ->check(CLI::PositiveNumber)
                    ->capture_default_str();
  auto* size = command.add_option("--bottleneck-size", peft.bottleneck_size, "Width of bottleneck adapters")
                   ->check(CLI::Range(1, 4096))
                   ->capture_default_str();
  auto* n_virtual = command
                        .add_option("--num-virtual-tokens", peft.n_virtual_tokens,
                                    "Of prompt and prefix tuning: how many stand before a text")
                        ->check(CLI::Range(1, 4096))
                        ->capture_default_str();
  f.method_flags = {{MethodRow::kRank, {rank}},
                    {MethodRow::kLora, {alpha, dropout, rslora, ratio}},
                    {MethodRow::kBottleneck, {size}},
                    {MethodRow::kVirtualTokens, {n_virtual}}};
}

// Flags that the method would not heed are mistakes.
Status CheckMethodFlags(const Flags& f) {
  const std::string& method = f.options.peft.method;
  const MethodRow& row = *FindMethod(method);
  for (const auto& [option, flags] : f.method_flags) {
    for (const CLI::Option* flag : flags) {
      if ((row.heeds & option) != 0 || flag->count() == 0) continue;
      return MakeError(ErrorCode::kInvalidArgument, "{} has no {}", method, flag->get_name());
    }
  }
  if (f.gguf && method != "lora") {
    return MakeError(ErrorCode::kInvalidArgument, "--gguf: llama.cpp has no {} adapters, only LoRA", method);
  }
  return {};
}

void AddOptimizerFlags(CLI::App& command, Flags& f) {
  TrainOptions& o = f.options;
  command.add_option("--learning-rate,--lr", o.learning_rate, "AdamW's largest step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--weight-decay", o.adamw.weight_decay, "AdamW's")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--lr-scheduler", f.schedule, "How the rate falls after the warm-up")
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
}

void AddRunFlags(CLI::App& command, Flags& f) {
  TrainOptions& o = f.options;
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
  command.add_option("--resume", f.resume, "A checkpoint to go on from, with the same data and options");
  command.add_option("-s,--seed", o.seed, "Of the first weights, the order of examples and dropout")
      ->capture_default_str();
  command.add_flag("--gguf", f.gguf, "Also write the adapter as GGUF, for llama.cpp: OUTPUT/adapter.gguf");
}

void PrintData(const char* what, const std::string& path, const Dataset& data) {
  fmt::print("{}: {} examples, {} tokens, {} of them learned ({})\n", what, data.examples.size(),
             data.n_tokens, data.n_labels, path);
  if (data.n_truncated > 0) fmt::print("  {} examples lost their end (--max-seq-length)\n", data.n_truncated);
  if (data.n_dropped > 0) fmt::print("  {} examples left out: nothing to learn in them\n", data.n_dropped);
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

void PrintPlan(const TrainPlan& plan, const Flags& f) {
  const TrainOptions& o = f.options;
  fmt::print("{} of {} parameters trained ({:.2f} %), {}\n", plan.n_parameters, plan.n_base_parameters,
             100.0 * static_cast<double>(plan.n_parameters) / static_cast<double>(plan.n_base_parameters),
             Describe(o.peft, f.targets));
  fmt::print("steps: {} ({} per epoch), warm-up {}, learning rate {} {}\n", plan.n_steps,
             plan.steps_per_epoch, plan.warmup_steps, o.learning_rate, f.schedule);
  if (plan.first_step > 0) fmt::print("resumed after step {}\n", plan.first_step);
  std::fflush(stdout);
}

void PrintSummary(const TrainSummary& s) {
  fmt::print("{} steps in {:.1f} s ({:.0f} tokens/s), loss {:.4f} -> {:.4f}\n", s.steps, s.seconds,
             s.tokens_per_second, s.first_loss, s.last_loss);
  if (s.eval_loss_before && s.eval_loss) {
    fmt::print("evaluation loss {:.4f} -> {:.4f}\n", *s.eval_loss_before, *s.eval_loss);
  } else if (s.eval_loss) {
    fmt::print("evaluation loss {:.4f}\n", *s.eval_loss);
  }
  fmt::print("saved: {}\n", s.output);
}

Status Tune(Flags& f) {
  TrainOptions& options = f.options;
  options.schedule = *ParseSchedule(f.schedule);
  RETURN_IF_ERROR(CheckMethodFlags(f));
  if (!f.targets.empty()) options.peft.target_modules = CLI::detail::split(f.targets, ',');
  ASSIGN_OR_RETURN(const Context ctx, f.compute.MakeContext());
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(f.model));
  const ChatTemplate* chat_template = loaded.chat_template ? &*loaded.chat_template : nullptr;
  const DatasetOptions data_options{options.max_seq_length};
  ASSIGN_OR_RETURN(const Dataset data, LoadDataset(f.data, *loaded.tokenizer, chat_template, data_options));
  PrintData("data", f.data, data);
  std::optional<Dataset> eval_data;
  if (!f.eval_data.empty()) {
    ASSIGN_OR_RETURN(eval_data, LoadDataset(f.eval_data, *loaded.tokenizer, chat_template, data_options));
    PrintData("evaluation", f.eval_data, *eval_data);
  }
  std::optional<TrainLog> log;
  TrainJob job{*loaded.model, data, eval_data ? &*eval_data : nullptr, options, f.output, f.resume, {}};
  job.on_start = [&](const TrainPlan& plan) -> Status {
    ASSIGN_OR_RETURN(log, TrainLog::Open(f.output + "/log.jsonl", plan.first_step));
    PrintPlan(plan, f);
    return {};
  };
  ASSIGN_OR_RETURN(const TrainSummary summary,
                   Train(ctx, job, TerminalProgress(), [&](const Json& entry) { log->Append(entry); }));
  PrintSummary(summary);
  if (!f.gguf) return {};
  ASSIGN_OR_RETURN(const Adapter adapter, LoadAdapter(f.output, *loaded.model));
  RETURN_IF_ERROR(SaveGgufAdapter(adapter, *loaded.model, f.output + "/adapter.gguf"));
  fmt::print("adapter: {}/adapter.gguf\n", f.output);
  return {};
}

}  // namespace

void AddTune(CLI::App& app) {
  auto* command = app.add_subcommand("tune", "Train an adapter on a model, quantized or not");
  auto flags = std::make_shared<Flags>();
  AddDataFlags(*command, *flags);
  AddMethodFlags(*command, *flags);
  AddOptimizerFlags(*command, *flags);
  AddRunFlags(*command, *flags);
  flags->compute.Add(*command);
  command->footer(
      "Products with quantized weights run in the kernels that will serve the model (--compute int8), so "
      "that the "
      "adapter also learns to repair what rounding costs there; that is faster too. Gradients are F32 either "
      "way. "
      "Use --compute f32 to compare with other trainers.");
  command->callback(Runs([flags]() { return Tune(*flags); }));
}

}  // namespace thimble
