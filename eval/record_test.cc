#include "eval/record.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/interval.h"

namespace thimble {
namespace {

EvalRecord SizeOnly() {
  return {.name = "m",
          .model = "m.gguf",
          .size = {.file_bytes = 1000, .weight_bytes = 900, .n_parameters = 1600}};
}

// Of four tokens that all cost the same.
PerplexityResult Text(double nll, double kld) {
  const TokenScore score{.nll = nll, .reference_nll = 1, .kld = kld, .same_top = true};
  return {.kld_mean = kld, .seconds = 2, .tokens_per_second = 123, .scores = {4, score}};
}

TEST(EvalRecord, HasTheKeysThatScriptsRead) {
  const std::vector<std::string> keys = {
      "ppl",   "ppl_se",          "kld_mean",          "kld_median",     "kld_p99", "top1_agreement",
      "bytes", "bits_per_weight", "tokens_per_second", "peak_rss_bytes", "n_tokens"};
  EvalRecord record = SizeOnly();
  Json json = ToJson(record);
  for (const std::string& key : keys) {
    ASSERT_TRUE(json.contains(key)) << key;
    EXPECT_EQ(json[key].is_null(), key != "bytes" && key != "bits_per_weight") << key;
  }
  EXPECT_EQ(json["bytes"], 1000);
  EXPECT_EQ(json["bits_per_weight"], 4.5);

  record.peak_rss_bytes = 4096;
  record.texts = {{"en", "en.txt", Text(2, 0.1)}};
  json = ToJson(record);
  EXPECT_DOUBLE_EQ(json["ppl"], std::exp(2));
  EXPECT_EQ(json["ppl_se"], 0);
  EXPECT_EQ(json["kld_mean"], 0.1);
  EXPECT_EQ(json["top1_agreement"], 1);
  EXPECT_DOUBLE_EQ(json["tokens_per_second"], 123);
  EXPECT_EQ(json["peak_rss_bytes"], 4096);
  EXPECT_EQ(json["n_tokens"], 4);
  EXPECT_EQ(json["text"], "en.txt");
}

TEST(EvalRecord, TextsHaveTheirOwnRowsAndAreOneTextAbove) {
  EvalRecord record = SizeOnly();
  record.texts = {{"en", "en.txt", Text(2, 0.1)}, {"ko", "ko.txt", Text(4, 0.3)}};
  record.texts[0].result.worst = {{.kld = 5}, {.kld = 1}};
  record.texts[1].result.worst = {{.kld = 9, .next = "x"}, {.kld = 3}};
  const Json json = ToJson(record);
  EXPECT_EQ(json["texts"][0]["name"], "en");
  EXPECT_EQ(json["texts"][0]["kld_mean"], 0.1);
  EXPECT_EQ(json["texts"][1]["text"], "ko.txt");
  EXPECT_EQ(json["texts"][1]["kld_mean"], 0.3);
  EXPECT_EQ(json["kld_mean"], 0.2);
  EXPECT_DOUBLE_EQ(json["ppl"], std::exp(3));
  EXPECT_EQ(json["n_tokens"], 8);
  ASSERT_EQ(json["worst"].size(), 2u);  // as many as of one text
  EXPECT_EQ(json["worst"][0]["kld"], 9);
  EXPECT_EQ(json["worst"][0]["text"], "ko");
  EXPECT_EQ(json["worst"][0]["next"], "x");
  EXPECT_EQ(json["worst"][1]["kld"], 5);
}

TEST(EvalRecord, ExactMatchCarriesItsIntervalAndSomeWrongAnswers) {
  EvalRecord record = SizeOnly();
  record.data = "held_out.jsonl";
  ExactMatchResult match{.n_correct = 70};
  for (int i = 0; i < 100; ++i) match.answers.push_back({"right", i < 70 ? "right" : "wrong", i < 70});
  record.exact_match = match;
  const Json json = ToJson(record)["exact_match"];
  EXPECT_EQ(json["correct"], 70);
  EXPECT_EQ(json["total"], 100);
  EXPECT_EQ(json["low"], WilsonInterval(70, 100).low);
  EXPECT_EQ(json["data"], "held_out.jsonl");
  EXPECT_EQ(json["wrong"].size(), 20u);
  EXPECT_EQ(json["wrong"][0]["got"], "wrong");
}

}  // namespace
}  // namespace thimble
