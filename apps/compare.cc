#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "apps/common.h"
#include "apps/scoring.h"
#include "base/file.h"
#include "eval/comparison.h"
#include "eval/record_table.h"
#include "eval/report.h"
#include "formats/model_hash.h"

namespace thimble {
namespace {

struct CompareFlags {
  std::vector<std::string> models, texts, tasks;
  std::string reference;
  int64_t n_ctx = 512, max_windows = 0, top_k = kReferenceTopK;
  ComputeFlags compute;
  KvFlags kv;
  RecordFlags record;
};

ProgressFn ProgressOf(const std::string& name) {
  return [name, show = TerminalProgress()](Progress progress) {
    progress.stage = name;
    return show(progress);
  };
}

// What models are compared with: read from a file, or kept of a model that is run once, in F32, and let go.
Result<SavedReference> MakeReference(const CompareFlags& flags, Context ctx,
                                     const std::vector<NamedText>& texts) {
  if (SavedReference::Is(flags.reference)) return SavedReference::Load(flags.reference);
  ctx.compute = Compute::kF32;
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(flags.reference));
  ASSIGN_OR_RETURN(const std::vector<TokenWindows> windows,
                   SplitTexts(loaded, texts, flags.n_ctx, flags.max_windows));
  SavedReference reference = NewReference(*loaded.model, flags.n_ctx, flags.top_k);
  for (const TokenWindows& text : windows) {
    RETURN_IF_ERROR(MeasurePerplexity(ctx, *loaded.model, *loaded.tokenizer, text, {.save = &reference},
                                      ProgressOf("reference")));
  }
  return reference;
}

Result<ComparedModel> MeasureModel(const CompareFlags& flags, const Context& ctx, const NamedFile& file,
                                   const std::optional<SavedReference>& reference,
                                   const std::vector<NamedText>& texts, const std::vector<NamedTask>& tasks) {
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(file.path));
  ComparedModel model{.name = file.name, .file = {}, .size = MeasureSize(*loaded.model)};
  model.file = {file.path, model.size.file_bytes, HashModel(loaded.model->file())};
  ASSIGN_OR_RETURN(const std::vector<TokenWindows> windows,
                   SplitTexts(loaded, texts, flags.n_ctx, flags.max_windows));
  PerplexityOptions options{.saved_reference = reference ? &*reference : nullptr};
  if (flags.kv.given()) {
    ASSIGN_OR_RETURN(options.kv, flags.kv.Resolve(loaded.model->config()));
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSIGN_OR_RETURN(PerplexityResult result, MeasurePerplexity(ctx, *loaded.model, *loaded.tokenizer,
                                                                windows[i], options, ProgressOf(file.name)));
    model.texts.push_back({texts[i].file.name, texts[i].file.path, std::move(result)});
  }
  ASSIGN_OR_RETURN(const KvTypes kv, flags.kv.Resolve(loaded.model->config()));
  for (const NamedTask& task : tasks) {
    ASSIGN_OR_RETURN(ChoiceResult result, MeasureChoices(ctx, *loaded.model, *loaded.tokenizer, task.items,
                                                         {}, kv, ProgressOf(file.name)));
    model.tasks.push_back({task.text.file.name, task.text.file.path, std::move(result)});
  }
  return model;
}

std::string Joined(const std::vector<ComparedModel>& models) {
  std::string names;
  for (const ComparedModel& model : models) names += (names.empty() ? "" : ", ") + model.name;
  return names;
}

bool IsRecord(const std::string& path) {
  return std::filesystem::path(path).extension() == ".json";
}

// What eval has measured already.
Status CompareRecords(const CompareFlags& flags) {
  if (!flags.texts.empty() || !flags.reference.empty() || !flags.tasks.empty() ||
      !flags.record.json.empty() || !flags.record.report.empty()) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "records of eval are shown as they are, without other flags (thimble report makes a page of "
        "them)");
  }
  std::vector<Json> records;
  for (const std::string& path : flags.models) {
    if (!IsRecord(path)) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: models and records cannot be compared together",
                       path);
    }
    ASSIGN_OR_RETURN(Json record, ReadJsonFile(path));
    RETURN_IF_ERROR(CheckRecord(record, path));
    if (record.value("kind", "") != "eval") {
      return MakeError(ErrorCode::kInvalidArgument, "{}: not a record of eval", path);
    }
    records.push_back(std::move(record));
  }
  fmt::print("{}", RecordTable(records));
  return {};
}

Status RunCompare(const CompareFlags& flags, const std::string& command_line) {
  if (std::ranges::any_of(flags.models, IsRecord)) return CompareRecords(flags);
  if (flags.texts.empty() && flags.tasks.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "nothing to compare: give --text FILE with --reference R, or --task FILE.jsonl");
  }
  if (flags.texts.empty() != flags.reference.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "--text and --reference go together: one of them is missing");
  }
  ASSIGN_OR_RETURN(const std::vector<NamedFile> files, ParseNamedFiles(flags.models, "compare"));
  for (const NamedFile& file : files) RETURN_IF_ERROR(OpenModelFile(file.path));  // before minutes of work
  ASSIGN_OR_RETURN(const Context ctx, flags.compute.MakeContext());
  ASSIGN_OR_RETURN(const std::vector<NamedText> texts, ReadTexts(flags.texts));
  ASSIGN_OR_RETURN(const std::vector<NamedTask> tasks, ReadTasks(flags.tasks));
  std::optional<SavedReference> reference;
  if (!texts.empty()) {
    ASSIGN_OR_RETURN(reference, MakeReference(flags, ctx, texts));
  }
  Comparison comparison{.command = command_line,
                        .version = THIMBLE_VERSION,
                        .compute = flags.compute.compute,
                        .n_ctx = flags.n_ctx};
  if (reference) comparison.reference = reference->header();
  for (const NamedText& text : texts) comparison.texts.push_back(HashText(text));
  for (const NamedTask& task : tasks) comparison.tasks.push_back(HashText(task.text));
  for (const NamedFile& file : files) {
    auto model = MeasureModel(flags, ctx, file, reference, texts, tasks);
    if (!model) return tl::unexpected(std::move(model).error());
    comparison.models.push_back(std::move(*model));
  }
  fmt::print("{}", ToMarkdown(comparison));
  return flags.record.Write(ToJson(comparison), "Comparison of " + Joined(comparison.models));
}

}  // namespace

void AddCompare(CLI::App& app) {
  auto* command = app.add_subcommand("compare", "Hold models against each other and against a reference");
  auto flags = std::make_shared<CompareFlags>();
  command
      ->add_option(
          "MODEL", flags->models,
          "GGUF files or Hugging Face folders, or NAME=MODEL; or records of eval --json, for a table of "
          "what was taught how and with which scores")
      ->required();
  command->add_option(
      "--reference", flags->reference,
      "The model that they are made of, computed in F32, or what eval --save-reference kept of it");
  command->add_option("--text", flags->texts,
                      "FILE or NAME=FILE, a row of its own for each model; repeatable");
  command->add_option("--task", flags->tasks, kTaskHelp);
  command->add_option("-c,--ctx-size", flags->n_ctx, "Tokens of a window")->capture_default_str();
  command->add_option("--max-windows,--chunks", flags->max_windows, "Windows of each text at most (0: all)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option(
          "--reference-top-k", flags->top_k,
          "How many of the most likely tokens to keep of each of the reference's predictions, and how many "
          "of the others")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  flags->record.Add(*command);
  flags->kv.Add(*command);
  flags->compute.Add(*command);
  command->callback(Runs([command, flags] { return RunCompare(*flags, CommandLine(*command)); }));
}

}  // namespace thimble
