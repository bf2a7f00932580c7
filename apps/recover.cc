#include "eval/recover.h"

#include <fmt/core.h>

#include "apps/training.h"

namespace thimble {
namespace {

struct RecoverFlags {
  std::string model, teacher, targets;
  PeftOptions peft{.rank = 16, .alpha = 16};
  TrainingFlags training;
  CalibrationFlags calibration;
  ComputeFlags compute;
};

void Print(const Recovery& r) {
  const auto closed = [&](double kld) { return 100 * (1 - kld / r.before); };
  PrintSummary(r.summary);
  fmt::print("\nKL divergence on {} tokens kept to measure by:\n", r.n_tokens);
  fmt::print("  without an adapter    {:.4f}\n", r.before);
  if (r.start)
    fmt::print("  before the first step {:.4f}, {:.1f} % of it closed\n", *r.start, closed(*r.start));
  fmt::print("  with the adapter      {:.4f}, {:.1f} % of it closed\n", r.after, closed(r.after));
}

Status RunRecover(RecoverFlags& f) {
  RETURN_IF_ERROR(f.training.Resolve());
  if (!f.targets.empty()) f.peft.target_modules = CLI::detail::split(f.targets, ',');
  f.peft.alpha = static_cast<double>(f.peft.rank);
  ASSIGN_OR_RETURN(const Context ctx, f.compute.MakeContext());
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(f.model));
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> teacher, Model::Load(f.teacher));
  ASSIGN_OR_RETURN(const CalibrationOptions calibration, f.calibration.Resolve());
  RunLog log;
  RecoverJob job{.model = *loaded.model,
                 .teacher = {*teacher},
                 .tokenizer = *loaded.tokenizer,
                 .chat_template = loaded.chat_template ? &*loaded.chat_template : nullptr,
                 .calibration = calibration,
                 .peft = f.peft,
                 .train = f.training.options,
                 .output = f.training.output,
                 .resume = f.training.resume};
  job.on_start = [&](const TrainPlan& plan) -> Status {
    RETURN_IF_ERROR(log.Open(f.training, plan.first_step));
    PrintPlan(plan, f.training, Describe(f.peft, f.targets));
    return {};
  };
  ASSIGN_OR_RETURN(const Recovery recovery,
                   Recover(ctx, job, TerminalProgress(), [&](const Json& entry) { log.Append(entry); }));
  Print(recovery);
  return f.training.gguf ? WriteGgufBeside(job.output, *loaded.model) : Status();
}

}  // namespace

void AddRecover(CLI::App& app) {
  auto* command = app.add_subcommand(
      "recover", "Train an adapter that gives a quantized model back what quantization took");
  auto flags = std::make_shared<RecoverFlags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder, quantized")->required();
  command->add_option("--teacher", flags->teacher, "The same model before it was quantized")->required();
  command
      ->add_option("-o,--output", flags->training.output,
                   "Folder for the adapter, the log and the checkpoints")
      ->required();
  command->add_option("--lora-r,--rank", flags->peft.rank, "Rank of the adapter")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--target-modules", flags->targets,
                      "Linear layers to adapt, e.g. q_proj,v_proj (default: all)");
  flags->training.options.batch_size = 2;
  flags->training.options.learning_rate = 1e-4;
  flags->training.options.epochs = 2;
  flags->training.AddOptimizer(*command);
  flags->training.AddRun(*command);
  flags->calibration.Add(*command);
  flags->compute.Add(*command);
  command->footer(
      "The adapter starts from what rounding took, as far as its rank goes and as the predictions depend on "
      "it, and "
      "then learns the teacher's predictions. thimble tune --start-from goes on from it with a task.");
  command->callback(Runs([flags] { return RunRecover(*flags); }));
}

}  // namespace thimble
