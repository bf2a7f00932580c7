#include <fmt/core.h>

#include <filesystem>

#include "apps/training.h"
#include "base/file.h"
#include "base/sha256.h"

namespace thimble {
namespace {

struct Flags {
  std::string model, data, eval_data, targets, start = "default", unquantized, start_from;
  PeftOptions peft;
  TrainingFlags training;
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
  f.training.AddOutput(command);
  command.add_option("--eval-data", f.eval_data, "JSONL that is not learned: its loss is measured");
  command
      .add_option("--max-seq-length", f.training.options.max_seq_length,
                  "Longer examples lose their end (tokens)")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command.add_flag(
      "--pack", f.training.options.pack,
      "Fill each batch with as many examples as fit into batch-size x max-seq-length tokens (they "
      "never see each other)");
}

void AddMethodFlags(CLI::App& command, Flags& f) {
  PeftOptions& peft = f.peft;
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
  auto* start = command
                    .add_option("--init-lora-weights", f.start,
                                "What LoRA starts from. default: nothing. pissa: each weight's largest part "
                                "of that rank (Meng et "
                                "al. 2024). loftq: what rounding took from --unquantized (Li et al. 2023)")
                    ->check(CLI::IsMember({"default", "pissa", "loftq"}))
                    ->capture_default_str();
  auto* unquantized =
      command.add_option("--unquantized", f.unquantized, "For loftq: MODEL before it was quantized");
  command.add_option("--start-from", f.start_from,
                     "An adapter of the same method and size to start from, such as one of thimble recover");
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
                    {MethodRow::kStart, {start, unquantized}},
                    {MethodRow::kBottleneck, {size}},
                    {MethodRow::kVirtualTokens, {n_virtual}}};
}

// Flags that the method would not heed are mistakes.
Status CheckMethodFlags(const Flags& f) {
  const std::string& method = f.peft.method;
  const MethodRow& row = *FindMethod(method);
  for (const auto& [option, flags] : f.method_flags) {
    for (const CLI::Option* flag : flags) {
      if ((row.heeds & option) != 0 || flag->count() == 0) continue;
      return MakeError(ErrorCode::kInvalidArgument, "{} has no {}", method, flag->get_name());
    }
  }
  if (f.training.gguf && method != "lora") {
    return MakeError(ErrorCode::kInvalidArgument, "--gguf: llama.cpp has no {} adapters, only LoRA", method);
  }
  return {};
}

void PrintData(const char* what, const std::string& path, const Dataset& data) {
  fmt::print("{}: {} examples, {} tokens, {} of them learned ({})\n", what, data.examples.size(),
             data.n_tokens, data.n_labels, path);
  if (data.n_truncated > 0) fmt::print("  {} examples lost their end (--max-seq-length)\n", data.n_truncated);
  if (data.n_dropped > 0) fmt::print("  {} examples left out: nothing to learn in them\n", data.n_dropped);
}

Result<std::unique_ptr<Method>> MakeMethod(const Context& ctx, const Model& model, Flags& f) {
  if (!f.targets.empty()) f.peft.target_modules = CLI::detail::split(f.targets, ',');
  f.peft.start = *ParseLoraStart(f.start);
  if ((f.peft.start == LoraStart::kResidual) == f.unquantized.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "--init-lora-weights loftq and --unquantized go together");
  }
  std::unique_ptr<Model> unquantized;
  if (!f.unquantized.empty()) {
    ASSIGN_OR_RETURN(unquantized, Model::Load(f.unquantized));
    f.peft.unquantized = unquantized.get();
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Method> method, CreateMethod(ctx, model, f.peft, f.training.options.seed));
  if (!f.start_from.empty()) RETURN_IF_ERROR(method->Load(f.start_from));
  return method;
}

Status Tune(Flags& f) {
  RETURN_IF_ERROR(f.training.Resolve());
  const std::string& output = f.training.output;
  RETURN_IF_ERROR(CheckMethodFlags(f));
  ASSIGN_OR_RETURN(const Context ctx, f.compute.JoinContext());
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(f.model));
  const ChatTemplate* chat_template = loaded.chat_template ? &*loaded.chat_template : nullptr;
  const DatasetOptions data_options{f.training.options.max_seq_length};
  ASSIGN_OR_RETURN(const Dataset data, LoadDataset(f.data, *loaded.tokenizer, chat_template, data_options));
  PrintData("data", f.data, data);
  std::optional<Dataset> eval_data;
  if (!f.eval_data.empty()) {
    ASSIGN_OR_RETURN(eval_data, LoadDataset(f.eval_data, *loaded.tokenizer, chat_template, data_options));
    PrintData("evaluation", f.eval_data, *eval_data);
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Method> method, MakeMethod(ctx, *loaded.model, f));
  Sha256 hash;
  ASSIGN_OR_RETURN(const auto data_file, MappedFile::Open(f.data));
  hash.Update(data_file->bytes());
  RunLog log;
  TrainJob job{.method = *method,
               .data = data,
               .eval_data = eval_data ? &*eval_data : nullptr,
               .options = f.training.options,
               .output = output,
               .resume = f.training.resume,
               .notes = {{"thimble.data", hash.Hex()}},
               .on_start = log.OnStart(f.training, Describe(f.peft, f.targets)),
               .on_checkpoint = [](const std::string& folder) {
                 SetLastWords(fmt::format("go on with --resume {}", folder));
               }};
  ASSIGN_OR_RETURN(const TrainSummary summary, Train(ctx, job, TerminalProgress(), log.OnStep()));
  if (!ctx.ranks.first()) return {};
  PrintSummary(summary);
  return f.training.gguf ? WriteGgufBeside(output, *loaded.model) : Status();
}

}  // namespace

void AddTune(CLI::App& app) {
  auto* command = app.add_subcommand("tune", "Train an adapter on a model, quantized or not");
  auto flags = std::make_shared<Flags>();
  AddDataFlags(*command, *flags);
  AddMethodFlags(*command, *flags);
  flags->training.AddOptimizer(*command);
  flags->training.AddRun(*command);
  flags->compute.Add(*command);
  command->footer(
      "Under mpirun, processes share each batch's examples and train as one: start all with the same flags.\n"
      "Products with quantized weights run in the kernels that will serve the model (--compute int8), so "
      "that the adapter "
      "also learns to repair what rounding costs there; that is faster too, and gradients go back through "
      "them in integers. "
      "Use --compute bf16 where the processor multiplies BF16 in tiles (AMX), which is the fastest there, "
      "and --compute f32 to compare with other trainers.");
  command->callback(Runs([flags]() { return Tune(*flags); }, OnCancel::kAllAgreed));
}

}  // namespace thimble
