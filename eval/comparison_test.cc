#include "eval/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thimble {
namespace {

using ::testing::HasSubstr;

// Windows of two positions each, with these divergences.
PerplexityResult Scored(const std::vector<double>& klds) {
  PerplexityResult result{.n_tokens = static_cast<int64_t>(klds.size()),
                          .n_windows = static_cast<int64_t>(klds.size() / 2),
                          .ppl = 12,
                          .reference_ppl = 10,
                          .kld_median = 0.1,
                          .kld_p99 = 0.2,
                          .top1_agreement = 0.75};
  for (double kld : klds) result.scores.push_back({.kld = kld, .right = true, .reference_right = true});
  return result;
}

Comparison Two() {
  Comparison comparison{
      .n_ctx = 4, .reference = ReferenceHeader{.model = "r.gguf"}, .texts = {{"t.txt", 5, "ab"}}};
  const ModelSize size{.file_bytes = 1000000, .weight_bytes = 900, .n_parameters = 1600};
  comparison.models = {{"a", {"a.gguf", 1000000, "cd"}, size, {{"t", "t.txt", Scored({1, 3, 5, 7, 1, 1})}}},
                       {"b", {"b.gguf", 1000000, "ef"}, size, {{"t", "t.txt", Scored({2, 4, 7, 7, 3, 1})}}}};
  return comparison;
}

TEST(Comparison, DifferencesArePairedByWindows) {
  const Comparison comparison = Two();
  const auto rows = CompareTexts(comparison);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_DOUBLE_EQ(rows[0].ppl_ratio, 1.2);
  EXPECT_DOUBLE_EQ(rows[0].kld.value, 3);
  EXPECT_NEAR(rows[0].kld.error, 1.5275, 1e-4);  // of 2, 6 and 1
  EXPECT_EQ(rows[0].less_first.value, 0);
  EXPECT_NEAR(rows[1].less_first.value, 1, 1e-12);  // 1 in every window
  ASSERT_TRUE(rows[1].less_first.interval);
  EXPECT_NEAR(rows[1].less_first.interval->low, 1, 1e-9);
  EXPECT_NEAR(rows[1].less_first.interval->high, 1, 1e-9);
}

TEST(Comparison, FlipsGoBothWays) {
  Comparison comparison = Two();
  auto& scores = comparison.models[1].texts[0].result.scores;
  scores[0].right = scores[1].right = scores[2].right = false;
  scores[1].reference_right = false;  // wrong both times: no flip
  scores[3] = {.right = true, .reference_right = false};
  const auto rows = CompareTexts(comparison);
  EXPECT_EQ(rows[0].right_to_wrong + rows[0].wrong_to_right, 0);
  EXPECT_NEAR(rows[1].right_to_wrong, 2.0 / 6, 1e-12);
  EXPECT_NEAR(rows[1].wrong_to_right, 1.0 / 6, 1e-12);
}

TEST(Comparison, IsWrittenAsJsonAndAsATable) {
  const Comparison comparison = Two();
  const Json json = ToJson(comparison);
  EXPECT_EQ(json["reference"]["path"], "r.gguf");
  EXPECT_EQ(json["models"][1]["sha256"], "ef");
  EXPECT_EQ(json["models"][0]["bits_per_weight"], 4.5);
  EXPECT_EQ(json["texts"][0]["bytes"], 5);
  ASSERT_EQ(json["rows"].size(), 2u);
  EXPECT_TRUE(json["rows"][0]["kld_less_first"].is_null());
  EXPECT_EQ(json["rows"][1]["model"], "b");
  EXPECT_EQ(json["rows"][1]["text"], "t");
  EXPECT_NEAR(json["rows"][1]["kld_less_first_interval"][0].get<double>(), 1, 1e-9);
  const std::string table = ToMarkdown(comparison);
  EXPECT_THAT(table,
              HasSubstr("| a | 1.0 | 4.50 | t | 12.000 | 1.2000 | 3.00000 ± 1.52753 | 0.200 | 75.00 % |"));
  EXPECT_THAT(table, HasSubstr("| +1.00000 (+1.00000 to +1.00000) |"));
}

TEST(Comparison, OneWindowHasNoInterval) {
  Comparison comparison = Two();
  for (ComparedModel& model : comparison.models) model.texts[0].result = Scored({1, 2});
  const Json row = ToJson(comparison)["rows"][1];
  EXPECT_TRUE(row["kld_se"].is_null());
  EXPECT_TRUE(row["kld_less_first_interval"].is_null());
  EXPECT_THAT(ToMarkdown(comparison), HasSubstr("| +0.00000 |\n"));
}

}  // namespace
}  // namespace thimble
