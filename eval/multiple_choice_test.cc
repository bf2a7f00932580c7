#include "eval/multiple_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST(ParseChoices, TakesTheHarnessesSpellings) {
  const auto items = ParseChoices(
      "{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 1, \"other\": []}\r\n\n"
      "{\"question\": \"q2\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": \"C\"}\n"
      "{\"ctx\": \"q3\", \"endings\": [\"a\", \"b\"], \"label\": \"0\"}",
      "t.jsonl");
  ASSERT_TRUE(items) << items.error().message;
  ASSERT_EQ(items->size(), 3u);
  EXPECT_EQ((*items)[0].query, "q");
  EXPECT_EQ((*items)[0].gold, 1);
  EXPECT_EQ((*items)[1].choices, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ((*items)[1].gold, 2);
  EXPECT_EQ((*items)[2].query, "q3");
  EXPECT_EQ((*items)[2].gold, 0);
}

TEST(ParseChoices, SaysWhatIsWrongAndWhere) {
  const auto error = [](const std::string& line) {
    const auto items = ParseChoices("\n" + line, "t.jsonl");
    EXPECT_FALSE(items);
    return items ? "" : items.error().message;
  };
  EXPECT_THAT(error(""), HasSubstr("no items"));
  EXPECT_THAT(error("[]"), HasSubstr("t.jsonl:2: not a JSON object"));
  EXPECT_THAT(error("{"), HasSubstr("t.jsonl:2"));
  EXPECT_THAT(error("{\"choices\": [\"a\", \"b\"], \"gold\": 1}"),
              HasSubstr("\"query\", \"question\", \"ctx\""));
  EXPECT_THAT(error("{\"query\": 1, \"choices\": [\"a\", \"b\"], \"gold\": 1}"), HasSubstr("not a string"));
  EXPECT_THAT(error("{\"query\": \"q\", \"choices\": [\"a\"], \"gold\": 0}"), HasSubstr("two or more"));
  EXPECT_THAT(error("{\"query\": \"q\", \"choices\": [\"a\", \"\"], \"gold\": 0}"), HasSubstr("empty"));
  for (const char* gold : {"2", "-1", "\"C\"", "\"x\"", "\"1x\"", "null", "0.5", "[]"}) {
    EXPECT_THAT(error(fmt::format("{{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": {}}}", gold)),
                HasSubstr("neither an index from 0 to 1"))
        << gold;
  }
}

class MeasureChoicesTest : public ::testing::Test {
 protected:
  void Load(const std::string& path) {
    auto model = Model::Load(path);
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
    auto tokenizer = LoadTokenizer(model_->file());
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = std::move(*tokenizer);
  }
  Result<ChoiceResult> Measure(const std::vector<ChoiceItem>& items, const ProgressFn& progress = nullptr) {
    const KvTypes exact{.k = WeightType::kF32, .v = WeightType::kF32};
    return MeasureChoices(ctx_, *model_, *tokenizer_, items, {}, exact, progress);
  }

  ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
  std::unique_ptr<Model> model_;
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(MeasureChoicesTest, IsThatOfAPlainCalculation) {
  Load(THIMBLE_SOURCE_DIR "/tests/golden/models/llama");
  const ChoiceItem item{.query = "abc de", .choices = {"fgh", "a much longer choice", "de"}, .gold = 2};
  const auto result = Measure({item, item});
  ASSERT_TRUE(result) << result.error().message;
  for (const ChoiceScore& score : result->items) {
    std::vector<double> by_bytes;
    for (size_t i = 0; i < 3; ++i) {
      const size_t n_query = tokenizer_->Encode(item.query, true, false).size();
      const auto ids = tokenizer_->Encode(item.query + " " + item.choices[i], true, false);
      const Tensor logits = Logits(ctx_, *model_, ForwardHidden(ctx_, *model_, {.tokens = ids}));
      double sum = 0;
      for (size_t t = n_query; t < ids.size(); ++t) {
        const float* row = logits.row(static_cast<int64_t>(t) - 1);
        double all = 0;
        for (int64_t v = 0; v < logits.cols(); ++v) all += std::exp(row[v]);
        sum += row[ids[t]] - std::log(all);
      }
      EXPECT_NEAR(score.log_likelihoods[i], sum, 1e-4);
      by_bytes.push_back(sum / static_cast<double>(item.choices[i].size()));
    }
    const auto highest = [](const auto& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    EXPECT_EQ(score.chosen, highest(score.log_likelihoods));
    EXPECT_EQ(score.chosen_by_bytes, highest(by_bytes));
    EXPECT_NE(score.chosen, score.chosen_by_bytes);  // the long one is unlikely, but not per byte
  }
}

TEST_F(MeasureChoicesTest, CancelsReportsAndRefusesWhatDoesNotFit) {
  Load(THIMBLE_SOURCE_DIR "/tests/golden/models/llama");
  const ChoiceItem item{.query = "a", .choices = {"b", "c"}};
  const auto cancelled = Measure({item}, [](const Progress&) { return false; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  const auto longest = Measure({item, {.query = std::string(5000, 'a'), .choices = {"b", "c"}}});
  ASSERT_FALSE(longest);
  EXPECT_THAT(longest.error().message, HasSubstr("item 2"));
  EXPECT_FALSE(Measure({{.query = "a", .choices = {std::string(5000, 'b'), "c"}}}));
}

// smollm2.json holds what Transformers computes (tools/make_task_goldens.py).
TEST_F(MeasureChoicesTest, AgreesWithTransformers) {
  const std::string path = THIMBLE_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there: tools/fetch_model.py smollm2";
  Load(path);
  const std::string tasks = THIMBLE_SOURCE_DIR "/tests/golden/tasks/";
  const auto items = ParseChoices(*ReadFile(tasks + "choices.jsonl"), "choices.jsonl");
  ASSERT_TRUE(items) << items.error().message;
  const auto golden = ReadJsonFile(tasks + "smollm2.json");
  ASSERT_TRUE(golden) << golden.error().message;
  const auto result = Measure(*items);
  ASSERT_TRUE(result) << result.error().message;
  ASSERT_EQ(golden->size(), items->size());
  for (size_t i = 0; i < items->size(); ++i) {
    const Json& want = (*golden)[i];
    const ChoiceScore& got = result->items[i];
    for (size_t j = 0; j < got.log_likelihoods.size(); ++j) {
      EXPECT_NEAR(got.log_likelihoods[j], want["log_likelihoods"][j].get<double>(), 2e-3) << i << " " << j;
    }
    EXPECT_EQ(got.chosen, want["acc"]) << i;
    EXPECT_EQ(got.chosen_by_bytes, want["acc_norm"]) << i;
  }
}

}  // namespace
}  // namespace thimble
