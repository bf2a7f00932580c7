#include <fmt/core.h>

#include <filesystem>

#include "apps/common.h"
#include "apps/scoring.h"
#include "base/file.h"
#include "eval/interval.h"
#include "eval/record.h"
#include "eval/report.h"
#include "formats/model_hash.h"
#include "train/dataset.h"
#include "train/trainer.h"

namespace thimble {
namespace {

struct EvalFlags {
  std::string model, reference, save_reference, data, name;
  std::vector<std::string> texts, tasks;
  int64_t n_ctx = 512, max_windows = 0, top_k = kReferenceTopK, max_tokens = 128;
  ComputeFlags compute;
  KvFlags kv;
  AdapterFlags adapters;
  RecordFlags record;
};

void PrintPerplexity(const PerplexityResult& p) {
  fmt::print("perplexity        {:.4f} +- {:.4f} over {} tokens\n", p.ppl, p.ppl_se, p.n_tokens);
  if (!p.kld_mean) return;
  fmt::print("of the reference  {:.4f}\n", *p.reference_ppl);
  fmt::print("KL divergence     mean {:.5f} +- {:.5f}, median {:.5f}, 99 % {:.5f}\n", *p.kld_mean, *p.kld_se,
             *p.kld_median, *p.kld_p99);
  fmt::print("same top token    {:.2f} %\n", 100 * *p.top1_agreement);
}

void PrintTask(const TaskResult& task) {
  const int64_t total = static_cast<int64_t>(task.result.items.size());
  fmt::print("--- {}\n", task.name);
  for (const auto& [what, n] : {std::pair("accuracy          ", task.result.n_correct()),
                                std::pair("by bytes (norm)   ", task.result.n_correct_by_bytes())}) {
    const Interval interval = WilsonInterval(n, total);
    fmt::print("{}{} of {} ({:.1f} %; 95 % interval {:.1f} to {:.1f} %)\n", what, n, total,
               100.0 * static_cast<double>(n) / static_cast<double>(total), 100 * interval.low,
               100 * interval.high);
  }
}

void PrintRecord(const EvalRecord& record) {
  fmt::print("{}: {}, {:.2f} bits per weight\n", record.name, HumanBytes(record.size.file_bytes),
             record.size.bits_per_weight());
  if (record.reference_bytes) fmt::print("the reference     {}\n", HumanBytes(*record.reference_bytes));
  if (const auto all = record.perplexity()) {
    for (const TextResult& text : record.texts) {
      if (record.texts.size() > 1) fmt::print("--- {}\n", text.name);
      PrintPerplexity(text.result);
    }
    fmt::print("speed             {:.1f} tokens/s, peak memory {}\n", all->tokens_per_second,
               HumanBytes(record.peak_rss_bytes));
  }
  for (const TaskResult& task : record.tasks) PrintTask(task);
  if (const auto& m = record.exact_match) {
    const Interval interval = WilsonInterval(m->n_correct, static_cast<int64_t>(m->answers.size()));
    fmt::print("exact match       {} of {} ({:.1f} %; 95 % interval {:.1f} to {:.1f} %)\n", m->n_correct,
               m->answers.size(), 100 * m->exact_match(), 100 * interval.low, 100 * interval.high);
    const TextScores& scores = m->scores;
    for (const auto& [name, score] : {std::pair("macro-F1", scores.macro_f1), std::pair("BLEU", scores.bleu),
                                      std::pair("chrF", scores.chrf)}) {
      fmt::print("{:<18}{:.1f} (95 % interval {:.1f} to {:.1f})\n", name, score.value, score.interval.low,
                 score.interval.high);
    }
  }
}

Status MeasureTexts(const EvalFlags& flags, const Context& ctx, const LoadedModel& loaded,
                    const LoadedAdapters& adapters, EvalRecord& record) {
  ASSIGN_OR_RETURN(const std::vector<NamedText> texts, ReadTexts(flags.texts));
  ASSIGN_OR_RETURN(const std::vector<TokenWindows> windows,
                   SplitTexts(loaded, texts, flags.n_ctx, flags.max_windows));
  PerplexityOptions options{.adapters = adapters.applied};
  if (flags.kv.given()) {
    ASSIGN_OR_RETURN(options.kv, flags.kv.Resolve(loaded.model->config()));
  }
  record.peak_rss_bytes = MeasurePeakMemory(ctx, *loaded.model, windows[0], options);
  for (const NamedText& text : texts) record.inputs.push_back(HashText(text));

  LoadedReference reference;
  if (!flags.reference.empty()) {
    ASSIGN_OR_RETURN(reference, LoadReference(flags.reference));
    options.reference = reference.model.get();
    if (reference.saved) options.saved_reference = &*reference.saved;
  }
  std::optional<SavedReference> save;
  if (!flags.save_reference.empty()) {
    save.emplace(NewReference(*loaded.model, flags.n_ctx, flags.top_k));
    options.save = &*save;
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSIGN_OR_RETURN(PerplexityResult result, MeasurePerplexity(ctx, *loaded.model, *loaded.tokenizer,
                                                                windows[i], options, TerminalProgress()));
    record.texts.push_back({texts[i].file.name, texts[i].file.path, std::move(result)});
  }
  if (save) RETURN_IF_ERROR(save->Save(flags.save_reference));
  if (reference.saved) {
    const ReferenceHeader& header = reference.saved->header();
    record.reference_bytes = header.model_bytes;
    record.inputs.push_back({header.model, header.model_bytes, header.model_sha256});
  } else if (reference.model) {
    record.reference_bytes = MeasureSize(*reference.model).file_bytes;
    record.layers = MeasureLayerErrors(ctx, *loaded.model, *reference.model);
    record.inputs.push_back({flags.reference, *record.reference_bytes, HashModel(reference.model->file())});
  }
  return {};
}

Status MeasureData(const EvalFlags& flags, const Context& ctx, const LoadedModel& loaded,
                   const LoadedAdapters& adapters, EvalRecord& record) {
  ASSIGN_OR_RETURN(
      const std::vector<PromptAndAnswer> prompts,
      LoadPrompts(flags.data, *loaded.tokenizer, loaded.chat_template ? &*loaded.chat_template : nullptr));
  if (prompts.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}: holds no prompts", flags.data);
  ASSIGN_OR_RETURN(const KvTypes kv, flags.kv.Resolve(loaded.model->config()));
  Session session(ctx, *loaded.model, *loaded.tokenizer, 0, kv);
  session.SetAdapters(adapters.applied);
  ASSIGN_OR_RETURN(record.exact_match,
                   MeasureExactMatch(ctx.ranks, session, prompts, flags.max_tokens, TerminalProgress()));
  return {};
}

Status MeasureTasks(const EvalFlags& flags, const std::vector<NamedTask>& tasks, const Context& ctx,
                    const LoadedModel& loaded, const LoadedAdapters& adapters, EvalRecord& record) {
  ASSIGN_OR_RETURN(const KvTypes kv, flags.kv.Resolve(loaded.model->config()));
  for (const NamedTask& task : tasks) {
    ASSIGN_OR_RETURN(ChoiceResult result, MeasureChoices(ctx, *loaded.model, *loaded.tokenizer, task.items,
                                                         adapters.applied, kv, TerminalProgress()));
    record.tasks.push_back({task.text.file.name, task.text.file.path, std::move(result)});
    record.inputs.push_back(HashText(task.text));
  }
  return {};
}

// Of the one adapter, or of a model that was trained whole; null where no such summary stands beside it.
Json TrainingOf(const EvalFlags& flags) {
  if (flags.adapters.paths.size() > 1) return Json();
  std::filesystem::path folder =
      flags.adapters.paths.empty() ? flags.model : AdapterPath(flags.adapters.paths[0]);
  std::error_code ec;
  if (!std::filesystem::is_directory(folder, ec)) folder = folder.parent_path();
  const std::string path = folder / kTrainSummaryFile;
  Result<Json> summary = ReadJsonFile(path);
  return summary && CheckTraining(*summary, path) ? *std::move(summary) : Json();
}

Status RunEval(const EvalFlags& flags, const std::string& command_line) {
  if (flags.texts.empty() && flags.data.empty() && flags.tasks.empty()) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "nothing to measure: give --text FILE (perplexity), --task FILE.jsonl (multiple choice) or --data "
        "FILE.jsonl (exact match)");
  }
  if (flags.texts.empty() && !flags.save_reference.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "--save-reference: of which text? Give --text FILE");
  }
  ASSIGN_OR_RETURN(const std::vector<NamedTask> tasks, ReadTasks(flags.tasks));
  ASSIGN_OR_RETURN(const Context ctx, flags.compute.JoinContext());
  if (ctx.ranks.size() > 1 && !flags.save_reference.empty()) {
    return MakeError(ErrorCode::kUnsupported, "--save-reference: one process must read the whole text");
  }
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(flags.model));
  ASSIGN_OR_RETURN(const LoadedAdapters adapters, LoadAdapters(flags.adapters.paths, *loaded.model));
  EvalRecord record{.name = flags.name,
                    .model = flags.model,
                    .command = command_line,
                    .version = THIMBLE_VERSION,
                    .compute = flags.compute.compute,
                    .adapters = flags.adapters.paths,
                    .size = MeasureSize(*loaded.model),
                    .reference = flags.reference,
                    .n_ctx = flags.n_ctx,
                    .data = flags.data};
  record.training = TrainingOf(flags);
  if (record.name.empty()) record.name = std::filesystem::path(flags.model).filename();
  record.inputs.push_back({flags.model, record.size.file_bytes, HashModel(loaded.model->file())});
  if (!flags.texts.empty()) RETURN_IF_ERROR(MeasureTexts(flags, ctx, loaded, adapters, record));
  RETURN_IF_ERROR(MeasureTasks(flags, tasks, ctx, loaded, adapters, record));
  if (!flags.data.empty()) RETURN_IF_ERROR(MeasureData(flags, ctx, loaded, adapters, record));
  if (!ctx.ranks.first()) return {};
  PrintRecord(record);
  return flags.record.Write(ToJson(record), record.name);
}

// "run" for run/log.jsonl, "log" for log.jsonl.
std::string TuneName(const std::filesystem::path& path) {
  const std::string folder = path.parent_path().filename();
  return folder.empty() ? path.stem().string() : folder;
}

}  // namespace

void AddEval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Measure what a model costs and how good it is");
  auto flags = std::make_shared<EvalFlags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  command->add_option(
      "--text", flags->texts,
      "Perplexity of this text, FILE or NAME=FILE (- for standard input); through a cache only if "
      "its type is given; repeatable");
  auto* reference = command->add_option("--reference", flags->reference,
                                        "Compare with this model's predictions, computed in F32, or with "
                                        "those of --save-reference: KL divergence, "
                                        "top-1 agreement, the worst positions");
  command
      ->add_option("--save-reference", flags->save_reference,
                   "Keep this model's predictions of the texts, computed in F32, in this file (.tref), for "
                   "--reference: exact to about 0.3 %, and small")
      ->excludes(reference);
  command
      ->add_option(
          "--reference-top-k", flags->top_k,
          "With --save-reference: how many of the most likely tokens to keep of each prediction, and how "
          "many of the others")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  command->add_option("--task", flags->tasks, kTaskHelp);
  command->add_option(
      "--data", flags->data,
      "Exact match: JSONL of {\"prompt\", \"completion\"} or {\"messages\"}, answered greedily");
  command->add_option("-c,--ctx-size", flags->n_ctx, "Tokens of a window")->capture_default_str();
  command->add_option("--max-windows,--chunks", flags->max_windows, "Windows at most (0: all)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("-n,--n-predict", flags->max_tokens, "Tokens of an answer at most")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  flags->record.Add(*command);
  command->add_option("--name", flags->name, "What pictures and tables call the model (default: its file)");
  flags->adapters.Add(*command);
  flags->kv.Add(*command);
  flags->compute.Add(*command);
  command->callback(Runs([command, flags]() -> Status {
    if (!flags->save_reference.empty()) {
      if (command->count("--compute") > 0 && flags->compute.compute != "f32") {
        return MakeError(ErrorCode::kInvalidArgument,
                         "--save-reference: a reference is computed in F32; leave --compute out");
      }
      flags->compute.compute = "f32";
    }
    return RunEval(*flags, CommandLine(*command));
  }));
}

void AddReport(CLI::App& app) {
  struct Flags {
    std::vector<std::string> records, tunes;
    std::string output, title;
  };
  auto* command = app.add_subcommand(
      "report", "Join what several commands measured, and training runs, into one HTML page");
  auto flags = std::make_shared<Flags>();
  command->add_option("RECORD", flags->records, "What thimble eval, fit or compare wrote with --json");
  command->add_option("--tune", flags->tunes, "A training run's log.jsonl, or its folder; repeatable");
  command->add_option("-o,--output", flags->output, "The page")->required();
  command->add_option("--title", flags->title, "Its title")->default_val("Thimble report");
  command->callback(Runs([flags]() -> Status {
    ReportInput input{.records = {}, .tunes = {}, .title = flags->title};
    for (const std::string& path : flags->records) {
      ASSIGN_OR_RETURN(Json record, ReadJsonFile(path));
      RETURN_IF_ERROR(CheckRecord(record, path));
      input.records.push_back(std::move(record));
    }
    for (std::filesystem::path path : flags->tunes) {
      if (std::filesystem::is_directory(path)) path /= "log.jsonl";
      ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
      ASSIGN_OR_RETURN(TuneLog log, ParseTuneLog(text, TuneName(path), path));
      input.tunes.push_back(std::move(log));
    }
    ASSIGN_OR_RETURN(const std::string page, RenderReport(input));
    return WriteFileAtomically(flags->output, page);
  }));
}

}  // namespace thimble
