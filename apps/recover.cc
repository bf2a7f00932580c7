// thimble recover and thimble adapter rebase: adapters that learn another model's predictions.
#include "eval/recover.h"

#include <fmt/core.h>

#include "apps/training.h"

namespace thimble {
namespace {

struct DistilFlags {
  TrainingFlags training;
  CalibrationFlags calibration;
  ComputeFlags compute;
  double hidden_weight = 0;

  DistilFlags() {
    training.options.batch_size = 2;
    training.options.learning_rate = 1e-4;
  }
  void Add(CLI::App& command) {
    training.AddOptimizer(command);
    training.AddRun(command);
    calibration.Add(command);
    compute.Add(command);
    command
        .add_option(
            "--hidden-weight", hidden_weight,
            "Weight of the last hidden states' error, relative to their size, beside the predictions'")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
  }
  // `what` describes what is trained.
  Result<RecoverJob> Job(const LoadedModel& loaded, const Model& teacher, const Adapter* on_teacher,
                         RunLog& log, const std::string& what) const {
    ASSIGN_OR_RETURN(const CalibrationOptions texts, calibration.Resolve());
    return RecoverJob{.model = *loaded.model,
                      .teacher = {teacher, on_teacher, hidden_weight},
                      .tokenizer = *loaded.tokenizer,
                      .chat_template = loaded.chat_template ? &*loaded.chat_template : nullptr,
                      .calibration = texts,
                      .train = training.options,
                      .output = training.output,
                      .resume = training.resume,
                      .on_start = log.OnStart(training, what)};
  }
};

struct RecoverFlags {
  std::string model, teacher, targets;
  PeftOptions peft{.rank = 16, .alpha = 16};
  DistilFlags distil;
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
  RETURN_IF_ERROR(f.distil.training.Resolve());
  if (!f.targets.empty()) f.peft.target_modules = CLI::detail::split(f.targets, ',');
  f.peft.alpha = static_cast<double>(f.peft.rank);
  ASSIGN_OR_RETURN(const Context ctx, f.distil.compute.MakeContext());
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(f.model));
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> teacher, Model::Load(f.teacher));
  RunLog log;
  ASSIGN_OR_RETURN(RecoverJob job, f.distil.Job(loaded, *teacher, nullptr, log, Describe(f.peft, f.targets)));
  job.peft = f.peft;
  ASSIGN_OR_RETURN(const Recovery recovery, Recover(ctx, job, TerminalProgress(), log.OnStep()));
  Print(recovery);
  return f.distil.training.gguf ? WriteGgufBeside(job.output, *loaded.model) : Status();
}

struct RebaseFlags {
  std::string adapter, from, to;
  DistilFlags distil;
};

Status RunRebase(RebaseFlags& f) {
  RETURN_IF_ERROR(f.distil.training.Resolve());
  ASSIGN_OR_RETURN(const Context ctx, f.distil.compute.MakeContext());
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(f.to));
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> from, Model::Load(f.from));
  ASSIGN_OR_RETURN(const Adapter old, LoadAdapter(f.adapter, *from));
  WarnOfAnotherBase(old, *from);
  ASSIGN_OR_RETURN(const Adapter moved, LoadAdapter(f.adapter, *loaded.model));
  RunLog log;
  ASSIGN_OR_RETURN(const RecoverJob job, f.distil.Job(loaded, *from, &old, log, "the adapter's own"));
  ASSIGN_OR_RETURN(const Recovery r, Rebase(ctx, job, moved, TerminalProgress(), log.OnStep()));
  PrintSummary(r.summary);
  fmt::print("\nKL divergence from {} with the adapter, on {} tokens kept to measure by:\n", f.from,
             r.n_tokens);
  fmt::print("  {} without it {:>12.4f}\n", f.to, r.before);
  if (r.start) fmt::print("  with it as it was  {:>12.4f}\n", *r.start);
  fmt::print("  fitted again       {:>12.4f}: so much is lost\n", r.after);
  return f.distil.training.gguf ? WriteGgufBeside(job.output, *loaded.model) : Status();
}

}  // namespace

void AddRecover(CLI::App& app) {
  auto* command = app.add_subcommand(
      "recover", "Train an adapter that gives a quantized model back what quantization took");
  auto flags = std::make_shared<RecoverFlags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder, quantized")->required();
  command->add_option("--teacher", flags->teacher, "The same model before it was quantized")->required();
  flags->distil.training.AddOutput(*command);
  command->add_option("--lora-r,--rank", flags->peft.rank, "Rank of the adapter")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--target-modules", flags->targets,
                      "Linear layers to adapt, e.g. q_proj,v_proj (default: all)");
  flags->distil.training.options.epochs = 2;
  flags->distil.Add(*command);
  command->footer(
      "The adapter starts from what rounding took, as far as its rank goes and as the predictions depend on "
      "it, and "
      "then learns the teacher's predictions. thimble tune --start-from goes on from it with a task.");
  command->callback(Runs([flags] { return RunRecover(*flags); }));
}

void AddRebase(CLI::App& app) {
  auto* command = app.add_subcommand(
      "rebase", "Fit a LoRA adapter to another rounding of its base, and see what was lost");
  auto flags = std::make_shared<RebaseFlags>();
  command->add_option("ADAPTER", flags->adapter, "LoRA or rsLoRA")->required();
  command->add_option("--from", flags->from, "The model that it was trained on")->required();
  command->add_option("--to", flags->to, "The model that it shall stand beside")->required();
  flags->distil.training.AddOutput(*command);
  flags->distil.Add(*command);
  command->callback(Runs([flags] { return RunRebase(*flags); }));
}

}  // namespace thimble
