#include "eval/record.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

EvalRecord SizeOnly() {
  return {.name = "m",
          .model = "m.gguf",
          .size = {.file_bytes = 1000, .weight_bytes = 900, .n_parameters = 1600}};
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

  record.perplexity = PerplexityResult{.n_tokens = 7,
                                       .ppl = 12.5,
                                       .ppl_se = 0.5,
                                       .reference_ppl = 12,
                                       .kld_mean = 0.1,
                                       .kld_se = 0.01,
                                       .kld_median = 0.05,
                                       .kld_p99 = 0.9,
                                       .top1_agreement = 0.8,
                                       .tokens_per_second = 123,
                                       .peak_rss_bytes = 4096};
  json = ToJson(record);
  EXPECT_EQ(json["ppl"], 12.5);
  EXPECT_EQ(json["ppl_se"], 0.5);
  EXPECT_EQ(json["kld_mean"], 0.1);
  EXPECT_EQ(json["kld_median"], 0.05);
  EXPECT_EQ(json["kld_p99"], 0.9);
  EXPECT_EQ(json["top1_agreement"], 0.8);
  EXPECT_EQ(json["tokens_per_second"], 123);
  EXPECT_EQ(json["peak_rss_bytes"], 4096);
  EXPECT_EQ(json["n_tokens"], 7);
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
