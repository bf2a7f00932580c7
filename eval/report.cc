#include "eval/report.h"

#include <array>
#include <cmath>
#include <optional>

#include "eval/report_page.h"

namespace thimble {
namespace {

bool HasNumber(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() && std::isfinite(it->get<double>());
}

tl::unexpected<Error> BadField(const std::string& source, std::string_view key, std::string_view wanted) {
  return MakeError(ErrorCode::kInvalidArgument,
                   "{}: \"{}\" must be {}; make the file with thimble eval --json", source, key, wanted);
}

Status CheckExactMatch(const Json& match, const std::string& source) {
  if (!match.is_object()) return BadField(source, "exact_match", "an object");
  for (const char* key : {"correct", "total", "low", "high"}) {
    if (!HasNumber(match, key)) return BadField(source, fmt::format("exact_match.{}", key), "a number");
  }
  const double correct = match["correct"], total = match["total"];
  if (total < 1) return BadField(source, "exact_match.total", "at least 1");
  if (correct < 0 || correct > total) {
    return BadField(source, "exact_match.correct", "between 0 and exact_match.total");
  }
  return {};
}

Status CheckLayers(const Json& layers, const std::string& source) {
  if (!layers.is_array()) return BadField(source, "layers", "an array");
  for (size_t i = 0; i < layers.size(); ++i) {
    const Json& layer = layers[i];
    const std::string at = fmt::format("layers[{}]", i);
    if (!layer.is_object()) return BadField(source, at, "an object");
    if (!HasNumber(layer, "layer")) return BadField(source, at + ".layer", "a number");
    if (!HasNumber(layer, "relative_error")) return BadField(source, at + ".relative_error", "a number");
    if (!layer.contains("module") || !layer["module"].is_string()) {
      return BadField(source, at + ".module", "a string");
    }
  }
  return {};
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

// Fills each {{place}} of the page once; what is filled in is not looked at again.
std::string Fill(std::string_view page, const std::vector<std::pair<std::string, std::string>>& places) {
  std::string out;
  for (size_t begin; (begin = page.find("{{")) != std::string_view::npos;) {
    out += page.substr(0, begin);
    page.remove_prefix(begin + 2);
    for (const auto& [name, text] : places) {
      if (page.substr(0, name.size() + 2) != name + "}}") continue;
      out += text;
      page.remove_prefix(name.size() + 2);
      break;
    }
  }
  return out.append(page);
}

}  // namespace

Status CheckEval(const Json& eval, const std::string& source) {
  if (!eval.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not a JSON object as thimble eval --json writes it",
                     source);
  }
  if (!HasNumber(eval, "bytes") || eval["bytes"].get<double>() <= 0) {
    return BadField(source, "bytes", "the model's size, a positive number");
  }
  for (const char* key : {"name", "model"}) {
    if (eval.contains(key) && !eval[key].is_string()) return BadField(source, key, "a string");
  }
  for (const char* key :
       {"ppl", "ppl_se", "kld_mean", "kld_se", "kld_median", "kld_p99", "top1_agreement", "reference_ppl",
        "reference_bytes", "bits_per_weight", "tokens_per_second", "peak_rss_bytes", "n_tokens"}) {
    if (eval.contains(key) && !eval[key].is_null() && !HasNumber(eval, key)) {
      return BadField(source, key, "a finite number or null");
    }
  }
  const bool has_match = eval.contains("exact_match") && !eval["exact_match"].is_null();
  if (has_match) RETURN_IF_ERROR(CheckExactMatch(eval["exact_match"], source));
  if (eval.contains("layers")) RETURN_IF_ERROR(CheckLayers(eval["layers"], source));
  if (!HasNumber(eval, "ppl") && !has_match) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: neither \"ppl\" nor \"exact_match\" is there, so there is no quality to show",
                     source);
  }
  return {};
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
  if (input.evals.empty() && input.tunes.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "a report needs at least one evaluation (thimble eval --json) or training log");
  }
  Json data = {{"title", input.title}, {"evals", Json::array()}, {"tunes", Json::array()}};
  for (size_t i = 0; i < input.evals.size(); ++i) {
    RETURN_IF_ERROR(CheckEval(input.evals[i], fmt::format("evaluation {}", i + 1)));
    data["evals"].push_back(input.evals[i]);
  }
  for (const TuneLog& tune : input.tunes) {
    if (tune.entries.empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "the training log {} has no entries", tune.name);
    }
    data["tunes"].push_back({{"name", tune.name}, {"entries", tune.entries}});
  }
  const std::string title = input.title.empty() ? "Thimble report" : input.title;
  return Fill(kReportHtml, {{"title", EscapeHtml(title)},
                            {"css", std::string(kReportCss)},
                            {"js", std::string(kReportJs)},
                            {"data", EmbeddableJson(data)}});
}

}  // namespace thimble
