#include "eval/report.h"

#include <array>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "eval/report_page.h"

namespace thimble {
namespace {

bool HasNumber(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() && std::isfinite(it->get<double>());
}

tl::unexpected<Error> BadField(const std::string& source, std::string_view key, std::string_view wanted) {
  return MakeError(ErrorCode::kInvalidArgument,
                   "{}: \"{}\" must be {}; make the file with --json of thimble eval, fit or compare", source,
                   key, wanted);
}

using Keys = std::initializer_list<const char*>;

Status CheckNumbers(const Json& object, Keys keys, const std::string& source, const std::string& at = "") {
  for (const char* key : keys) {
    if (!HasNumber(object, key)) return BadField(source, at + key, "a number");
  }
  return {};
}

// Where they are.
Status CheckNumbersOrNull(const Json& object, Keys keys, const std::string& source,
                          const std::string& at = "") {
  for (const char* key : keys) {
    if (object.contains(key) && !object[key].is_null() && !HasNumber(object, key)) {
      return BadField(source, at + key, "a finite number or null");
    }
  }
  return {};
}

// A list of objects, each with these texts and numbers; it may be absent.
Status CheckRows(const Json& record, const char* list, Keys texts, Keys numbers, const std::string& source) {
  if (!record.contains(list)) return {};
  if (!record[list].is_array()) return BadField(source, list, "an array");
  for (size_t i = 0; i < record[list].size(); ++i) {
    const Json& row = record[list][i];
    const std::string at = fmt::format("{}[{}]", list, i);
    if (!row.is_object()) return BadField(source, at, "an object");
    for (const char* key : texts) {
      if (!row.contains(key) || !row[key].is_string()) return BadField(source, at + "." + key, "a string");
    }
    RETURN_IF_ERROR(CheckNumbers(row, numbers, source, at + "."));
  }
  return {};
}

// Lists that the page cannot do without.
Status CheckNotEmpty(const Json& record, Keys lists, const std::string& source) {
  for (const char* list : lists) {
    if (!record.contains(list) || record[list].empty())
      return BadField(source, list, "a list that holds something");
  }
  return {};
}

Status CheckExactMatch(const Json& match, const std::string& source) {
  if (!match.is_object()) return BadField(source, "exact_match", "an object");
  RETURN_IF_ERROR(CheckNumbers(match, {"correct", "total", "low", "high"}, source, "exact_match."));
  const double correct = match["correct"], total = match["total"];
  if (total < 1) return BadField(source, "exact_match.total", "at least 1");
  if (correct < 0 || correct > total) {
    return BadField(source, "exact_match.correct", "between 0 and exact_match.total");
  }
  return {};
}

Status CheckSize(const Json& record, const std::string& source) {
  if (HasNumber(record, "bytes") && record["bytes"].get<double>() > 0) return {};
  return BadField(source, "bytes", "the model's size, a positive number");
}

Status CheckEval(const Json& eval, const std::string& source) {
  RETURN_IF_ERROR(CheckSize(eval, source));
  RETURN_IF_ERROR(CheckNumbersOrNull(
      eval,
      {"ppl", "ppl_se", "kld_mean", "kld_se", "kld_median", "kld_p99", "top1_agreement", "reference_ppl",
       "reference_bytes", "bits_per_weight", "tokens_per_second", "peak_rss_bytes", "n_tokens"},
      source));
  const bool has_match = eval.contains("exact_match") && !eval["exact_match"].is_null();
  if (has_match) RETURN_IF_ERROR(CheckExactMatch(eval["exact_match"], source));
  if (const auto training = eval.find("training"); training != eval.end() && !training->is_null()) {
    RETURN_IF_ERROR(CheckTraining(*training, source));
  }
  RETURN_IF_ERROR(CheckRows(eval, "layers", {"module"}, {"layer", "relative_error"}, source));
  RETURN_IF_ERROR(CheckRows(eval, "texts", {"name"}, {"ppl", "ppl_se", "n_tokens"}, source));
  RETURN_IF_ERROR(CheckRows(eval, "tasks", {"name"}, {"total", "acc", "acc_norm"}, source));
  RETURN_IF_ERROR(CheckRows(eval, "worst", {"text", "context", "next"}, {"kld"}, source));
  const bool has_tasks = eval.contains("tasks") && !eval["tasks"].empty();
  if (!HasNumber(eval, "ppl") && !has_match && !has_tasks) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "{}: none of \"ppl\", \"exact_match\" and \"tasks\" is there, so there is no quality to show",
        source);
  }
  return {};
}

Status CheckFit(const Json& fit, const std::string& source) {
  RETURN_IF_ERROR(CheckSize(fit, source));
  RETURN_IF_ERROR(CheckNumbers(
      fit, {"model_bytes", "bits_per_weight", "expected_kld", "activation_kld", "expected_ram_bytes"},
      source));
  RETURN_IF_ERROR(CheckNotEmpty(fit, {"front", "tensors"}, source));
  RETURN_IF_ERROR(CheckRows(fit, "front", {}, {"bytes", "kld"}, source));
  RETURN_IF_ERROR(CheckRows(fit, "types", {"type"}, {"bytes", "kld", "other"}, source));
  RETURN_IF_ERROR(CheckRows(fit, "tensors", {"name", "type"},
                            {"bytes", "weights", "expected_kld", "relative_error"}, source));
  for (const char* scores : {"selection", "scoring"}) {
    RETURN_IF_ERROR(CheckRows(fit, scores, {"text"},
                              {"tokens", "kld_mean", "kld_se", "top1_agreement", "ppl_ratio"}, source));
  }
  return CheckRows(fit, "texts", {"name"}, {"calibration", "selection", "scoring"}, source);
}

Status CheckComparison(const Json& comparison, const std::string& source) {
  RETURN_IF_ERROR(CheckNotEmpty(comparison, {"models"}, source));
  RETURN_IF_ERROR(CheckRows(comparison, "models", {"name"}, {"bytes", "bits_per_weight"}, source));
  RETURN_IF_ERROR(CheckRows(
      comparison, "rows", {"model", "text"},
      {"n_tokens", "n_windows", "ppl", "ppl_ratio", "kld_mean", "kld_p99", "top1_agreement"}, source));
  return CheckRows(comparison, "task_rows", {"model", "name"}, {"total", "acc", "acc_norm"}, source);
}

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

std::string EscapeHtml(std::string text) {
  ReplaceAll(text, "&", "&amp;");
  ReplaceAll(text, "<", "&lt;");
  ReplaceAll(text, ">", "&gt;");
  ReplaceAll(text, "\"", "&quot;");
  return text;
}

// JSON that cannot end the <script> around it, whatever its strings hold (HTML standard, 4.12.1.3), and that
// is a JavaScript literal too.
std::string EmbeddableJson(const Json& value) {
  std::string text = DumpJson(value);
  ReplaceAll(text, "<", "\\u003c");
  ReplaceAll(text, "\u2028", "\\u2028");
  ReplaceAll(text, "\u2029", "\\u2029");
  return text;
}

// The page with its places filled: once each, in this order, and what is filled in is not looked at again.
std::string Fill(std::string_view page, const std::vector<std::pair<std::string, std::string>>& places) {
  std::string out;
  for (const auto& [place, text] : places) {
    const size_t begin = page.find(place);
    CHECK(begin != std::string_view::npos);
    out.append(page.substr(0, begin)).append(text);
    page.remove_prefix(begin + place.size());
  }
  return out.append(page);
}

}  // namespace

Status CheckTraining(const Json& training, const std::string& source) {
  if (!training.is_object()) return BadField(source, "training", "an object");
  for (const char* text : {"method", "base", "compute"}) {
    if (training.contains(text) && !training[text].is_string()) {
      return BadField(source, fmt::format("training.{}", text), "a string");
    }
  }
  return CheckNumbersOrNull(training,
                            {"n_parameters", "saved_bytes", "steps", "tokens", "seconds", "peak_rss_bytes"},
                            source, "training.");
}

Status CheckRecord(const Json& record, const std::string& source) {
  const char* wanted = "as thimble eval, fit or compare writes it with --json";
  if (!record.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not a JSON object {}", source, wanted);
  }
  for (const char* key : {"name", "model", "command"}) {
    if (record.contains(key) && !record[key].is_string()) return BadField(source, key, "a string");
  }
  RETURN_IF_ERROR(CheckRows(record, "inputs", {"path", "sha256"}, {"bytes"}, source));
  const Json kind = record.value("kind", Json("eval"));
  if (kind == "eval") return CheckEval(record, source);
  if (kind == "fit") return CheckFit(record, source);
  if (kind == "compare") return CheckComparison(record, source);
  return BadField(source, "kind", "\"eval\", \"fit\" or \"compare\"");
}

Result<TuneLog> ParseTuneLog(std::string_view text, const std::string& name, const std::string& source) {
  TuneLog log{.name = name, .entries = {}};
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", source, number);
    ASSIGN_OR_RETURN(Json entry, ParseJson(line, where));
    if (!entry.is_object() || !HasNumber(entry, "step") ||
        !(entry.contains("loss") || entry.contains("eval_loss"))) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: a line of a training log has \"step\" and \"loss\" or \"eval_loss\"", where);
    }
    log.entries.push_back(std::move(entry));
  }
  if (log.entries.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: the training log has no lines", source);
  }
  return log;
}

Result<std::string> RenderReport(const ReportInput& input) {
  if (input.records.empty() && input.tunes.empty()) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "a report needs at least one file of thimble eval, fit or compare --json, or a training log");
  }
  Json data = {{"title", input.title}, {"records", Json::array()}, {"tunes", Json::array()}};
  for (size_t i = 0; i < input.records.size(); ++i) {
    RETURN_IF_ERROR(CheckRecord(input.records[i], fmt::format("record {}", i + 1)));
    data["records"].push_back(input.records[i]);
  }
  for (const TuneLog& tune : input.tunes) {
    if (tune.entries.empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "the training log {} has no entries", tune.name);
    }
    data["tunes"].push_back({{"name", tune.name}, {"entries", tune.entries}});
  }
  const std::string title = input.title.empty() ? "Thimble report" : input.title;
  return Fill(kReportHtml, {{"{{title}}", EscapeHtml(title)}, {"{{data}}", EmbeddableJson(data)}});
}

}  // namespace thimble
