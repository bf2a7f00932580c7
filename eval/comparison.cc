#include "eval/comparison.h"

namespace thimble {
namespace {

Json IntervalJson(const Mean& mean) {
  if (!mean.interval) return nullptr;
  return {mean.interval->low, mean.interval->high};
}

Json RowJson(const ComparisonRow& row, bool first) {
  const PerplexityResult& result = row.text->result;
  Json json = {{"model", row.model->name},
               {"text", row.text->name},
               {"n_tokens", result.n_tokens},
               {"n_windows", result.n_windows},
               {"ppl", result.ppl},
               {"ppl_ratio", row.ppl_ratio},
               {"kld_mean", row.kld.value},
               {"kld_se", row.kld.interval ? Json(row.kld.error) : Json()},
               {"kld_interval", IntervalJson(row.kld)},
               {"kld_median", *result.kld_median},
               {"kld_p99", *result.kld_p99},
               {"top1_agreement", *result.top1_agreement},
               {"right_to_wrong", row.right_to_wrong},
               {"wrong_to_right", row.wrong_to_right},
               {"kld_less_first", nullptr},
               {"kld_less_first_interval", nullptr}};
  if (!first) {
    json["kld_less_first"] = row.less_first.value;
    json["kld_less_first_interval"] = IntervalJson(row.less_first);
  }
  return json;
}

std::string IntervalText(const Mean& mean) {
  if (!mean.interval) return fmt::format("{:+.5f}", mean.value);
  return fmt::format("{:+.5f} ({:+.5f} to {:+.5f})", mean.value, mean.interval->low, mean.interval->high);
}

Json RowJson(const TaskRow& row, bool first) {
  Json json = {{"model", row.model->name}};
  json.update(ToJson(*row.task));
  json["right_to_wrong"] = json["wrong_to_right"] = json["acc_less_first"] = json["acc_less_first_interval"] =
      nullptr;
  if (first) return json;
  json["right_to_wrong"] = row.right_to_wrong;
  json["wrong_to_right"] = row.wrong_to_right;
  json["acc_less_first"] = row.less_first.value;
  json["acc_less_first_interval"] = IntervalJson(row.less_first);
  return json;
}

std::string TextTable(const Comparison& comparison) {
  std::string text =
      "| model | MB | bits | text | ppl | ratio | KL divergence | 99 % | same top | right to wrong | back | "
      "KL less "
      "the first's (95 %) |\n"
      "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
  for (const ComparisonRow& row : CompareTexts(comparison)) {
    const PerplexityResult& result = row.text->result;
    const bool first = row.model == &comparison.models[0];
    text += fmt::format(
        "| {} | {:.1f} | {:.2f} | {} | {:.3f} | {:.4f} | {:.5f}{} | {:.3f} | {:.2f} % | {:.2f} % | {:.2f} % "
        "| {} |\n",
        row.model->name, static_cast<double>(row.model->size.file_bytes) / 1e6,
        row.model->size.bits_per_weight(), row.text->name, result.ppl, row.ppl_ratio, row.kld.value,
        row.kld.interval ? fmt::format(" ± {:.5f}", row.kld.error) : "", *result.kld_p99,
        100 * *result.top1_agreement, 100 * row.right_to_wrong, 100 * row.wrong_to_right,
        first ? "" : IntervalText(row.less_first));
  }
  return text +
         "\nStandard errors and intervals are over windows of text, as the tokens of one window hang "
         "together; "
         "differences are taken window by window.\n";
}

std::string TaskTable(const Comparison& comparison) {
  std::string text =
      "| model | MB | bits | task | accuracy (95 %) | by bytes | right to wrong | back | accuracy less the "
      "first's "
      "(95 %) |\n"
      "|---|---:|---:|---|---:|---:|---:|---:|---:|\n";
  for (const TaskRow& row : CompareTasks(comparison)) {
    const ChoiceResult& result = row.task->result;
    const int64_t total = static_cast<int64_t>(result.items.size());
    const auto percent = [&](int64_t n) {
      return 100.0 * static_cast<double>(n) / static_cast<double>(total);
    };
    const Interval interval = WilsonInterval(result.n_correct(), total);
    const std::string versus = row.model == &comparison.models[0]
                                   ? " |  | "
                                   : fmt::format("{:.2f} % | {:.2f} % | {}", 100 * row.right_to_wrong,
                                                 100 * row.wrong_to_right, IntervalText(row.less_first));
    text +=
        fmt::format("| {} | {:.1f} | {:.2f} | {} | {:.1f} % ({:.1f} to {:.1f}) | {:.1f} % | {} |\n",
                    row.model->name, static_cast<double>(row.model->size.file_bytes) / 1e6,
                    row.model->size.bits_per_weight(), row.task->name, percent(result.n_correct()),
                    100 * interval.low, 100 * interval.high, percent(result.n_correct_by_bytes()), versus);
  }
  return text + "\nFlips are of answers: the first model's, then the row's.\n";
}

// Of the texts, read as eval reads them.
Json TokensPerSecond(const ComparedModel& model) {
  double tokens = 0, seconds = 0;
  for (const TextResult& text : model.texts) {
    tokens += text.result.seconds * text.result.tokens_per_second;
    seconds += text.result.seconds;
  }
  return seconds > 0 ? Json(tokens / seconds) : Json();
}

}  // namespace

std::vector<ComparisonRow> CompareTexts(const Comparison& comparison) {
  std::vector<ComparisonRow> rows;
  for (size_t text = 0; text < comparison.texts.size(); ++text) {
    const std::vector<double> first = WindowDivergences(comparison.models[0].texts[text].result);
    for (const ComparedModel& model : comparison.models) {
      const PerplexityResult& result = model.texts[text].result;
      const std::vector<double> own = WindowDivergences(result);
      ComparisonRow row{.model = &model,
                        .text = &model.texts[text],
                        .ppl_ratio = result.ppl / *result.reference_ppl,
                        .kld = MeanOf(own),
                        .less_first = MeanDifference(first, own)};
      const double each = 1.0 / static_cast<double>(result.n_tokens);
      for (const TokenScore& score : result.scores) {
        if (score.right == score.reference_right) continue;
        (score.right ? row.wrong_to_right : row.right_to_wrong) += each;
      }
      rows.push_back(row);
    }
  }
  return rows;
}

std::vector<TaskRow> CompareTasks(const Comparison& comparison) {
  std::vector<TaskRow> rows;
  for (size_t task = 0; task < comparison.tasks.size(); ++task) {
    const std::vector<ChoiceScore>& first = comparison.models[0].tasks[task].result.items;
    for (const ComparedModel& model : comparison.models) {
      const std::vector<ChoiceScore>& items = model.tasks[task].result.items;
      TaskRow row{.model = &model, .task = &model.tasks[task], .less_first = {}};
      std::vector<double> before, after;
      for (size_t i = 0; i < items.size(); ++i) {
        before.push_back(first[i].correct());
        after.push_back(items[i].correct());
        if (before[i] == after[i]) continue;
        (after[i] > 0 ? row.wrong_to_right : row.right_to_wrong) += 1.0 / static_cast<double>(items.size());
      }
      row.less_first = MeanDifference(before, after);
      rows.push_back(row);
    }
  }
  return rows;
}

Json ToJson(const Comparison& comparison) {
  Json json = {{"kind", "compare"},
               {"reference", nullptr},
               {"reference_top_k", nullptr},
               {"ctx_size", comparison.n_ctx},
               {"compute", comparison.compute},
               {"texts", Json::array()},
               {"tasks", Json::array()},
               {"models", Json::array()},
               {"rows", Json::array()},
               {"task_rows", Json::array()},
               {"command", comparison.command},
               {"thimble_version", comparison.version}};
  if (const auto& reference = comparison.reference) {
    json["reference"] = ToJson(EvalInput{reference->model, reference->model_bytes, reference->model_sha256});
    json["reference_top_k"] = reference->top_k;
  }
  for (const EvalInput& text : comparison.texts) json["texts"].push_back(ToJson(text));
  for (const EvalInput& task : comparison.tasks) json["tasks"].push_back(ToJson(task));
  for (const ComparedModel& model : comparison.models) {
    Json entry = {{"name", model.name}};
    entry.update(ToJson(model.file));
    entry["bits_per_weight"] = model.size.bits_per_weight();
    entry["tokens_per_second"] = TokensPerSecond(model);
    json["models"].push_back(std::move(entry));
  }
  for (const ComparisonRow& row : CompareTexts(comparison)) {
    json["rows"].push_back(RowJson(row, row.model == &comparison.models[0]));
  }
  for (const TaskRow& row : CompareTasks(comparison)) {
    json["task_rows"].push_back(RowJson(row, row.model == &comparison.models[0]));
  }
  return json;
}

std::string ToMarkdown(const Comparison& comparison) {
  std::string text;
  if (!comparison.texts.empty()) text += TextTable(comparison);
  if (!comparison.texts.empty() && !comparison.tasks.empty()) text += "\n";
  if (!comparison.tasks.empty()) text += TaskTable(comparison);
  return text;
}

}  // namespace thimble
