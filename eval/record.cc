#include "eval/record.h"

namespace thimble {
namespace {

constexpr size_t kWrongAnswers = 20;  // as examples, not a list of all

Json OrNull(const std::optional<double>& value) {
  return value ? Json(*value) : Json();
}

Json OrNull(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

void AddPerplexity(const PerplexityResult& result, Json& json) {
  json["ppl"] = result.ppl;
  json["ppl_se"] = result.ppl_se;
  json["kld_mean"] = OrNull(result.kld_mean);
  json["kld_median"] = OrNull(result.kld_median);
  json["kld_p99"] = OrNull(result.kld_p99);
  json["top1_agreement"] = OrNull(result.top1_agreement);
  json["tokens_per_second"] = result.tokens_per_second;
  json["peak_rss_bytes"] = result.peak_rss_bytes;
  json["n_tokens"] = result.n_tokens;
  json["kld_se"] = OrNull(result.kld_se);
  json["reference_ppl"] = OrNull(result.reference_ppl);
}

Json ExactMatchJson(const ExactMatchResult& result, const std::string& data) {
  const int64_t total = static_cast<int64_t>(result.answers.size());
  const Interval interval = WilsonInterval(result.n_correct, total);
  Json wrong = Json::array();
  for (const Answer& answer : result.answers) {
    if (answer.correct || wrong.size() == kWrongAnswers) continue;
    wrong.push_back({{"expected", answer.expected}, {"got", answer.got}});
  }
  return {
      {"correct", result.n_correct}, {"total", total}, {"low", interval.low},      {"high", interval.high},
      {"seconds", result.seconds},   {"data", data},   {"wrong", std::move(wrong)}};
}

}  // namespace

Json ToJson(const EvalRecord& record) {
  Json json = {{"name", record.name}, {"model", record.model}};
  for (const char* key : {"ppl", "ppl_se", "kld_mean", "kld_median", "kld_p99", "top1_agreement"}) {
    json[key] = nullptr;
  }
  json["bytes"] = record.size.file_bytes;
  json["bits_per_weight"] = record.size.bits_per_weight();
  for (const char* key : {"tokens_per_second", "peak_rss_bytes", "n_tokens"}) json[key] = nullptr;
  if (record.perplexity) AddPerplexity(*record.perplexity, json);
  json["weight_bytes"] = record.size.weight_bytes;
  json["n_parameters"] = record.size.n_parameters;
  json["text"] = OrNull(record.text);
  json["ctx_size"] = record.n_ctx;
  json["reference"] = OrNull(record.reference);
  if (record.reference_size) json["reference_bytes"] = record.reference_size->file_bytes;
  json["adapters"] = record.adapters;
  json["compute"] = record.compute;
  json["exact_match"] = record.exact_match ? ExactMatchJson(*record.exact_match, record.data) : Json();
  json["layers"] = Json::array();
  for (const LayerError& e : record.layers) {
    json["layers"].push_back(
        {{"layer", e.layer}, {"module", e.module}, {"type", e.type}, {"relative_error", e.relative_error}});
  }
  json["command"] = record.command;
  json["thimble_version"] = record.version;
  return json;
}

}  // namespace thimble
