#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/random.h"
#include "text/load_tokenizer.h"
#include "text/utf8.h"

namespace thimble {
namespace {

const std::string kModels = THIMBLE_SOURCE_DIR "/tests/golden/models/";

std::unique_ptr<Model> Load(const std::string& name) {
  auto model = Model::Load(kModels + name);
  EXPECT_TRUE(model) << model.error().message;
  return std::move(*model);
}

std::string SomeText(size_t n_words) {
  Random random(9);
  std::string text;
  for (size_t i = 0; i < n_words; ++i) {
    for (uint64_t n = 1 + random.Below(8); n > 0; --n) text += static_cast<char>('a' + random.Below(26));
    text += random.Below(10) == 0 ? ".\n" : " ";
  }
  return text;
}

// log softmax of each position of a window, one position at a time and in double.
std::vector<std::vector<double>> LogProbabilities(const Context& ctx, const Model& model,
                                                  const std::vector<TokenId>& window) {
  const Tensor logits = Logits(ctx, model, ForwardHidden(ctx, model, {.tokens = window}));
  std::vector<std::vector<double>> out;
  for (int64_t row = 0; row < logits.rows(); ++row) {
    std::vector<double> p(logits.row(row), logits.row(row) + logits.cols());
    double sum = 0;
    for (double x : p) sum += std::exp(x);
    for (double& x : p) x -= std::log(sum);
    out.push_back(std::move(p));
  }
  return out;
}

class PerplexityTest : public ::testing::Test {
 protected:
  PerplexityTest() {
    auto tokenizer = LoadTokenizer(model_->file());
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = std::move(*tokenizer);
  }
  Result<PerplexityResult> Measure(const std::string& text, int64_t n_ctx,
                                   const PerplexityOptions& options = {},
                                   const ProgressFn& progress = nullptr) const {
    return MeasurePerplexity(ctx_, *model_, *tokenizer_, Windows(text, n_ctx), options, progress);
  }
  TokenWindows Windows(const std::string& text, int64_t n_ctx, int64_t max_windows = 0) const {
    auto windows = SplitIntoWindows(*tokenizer_, text, n_ctx, max_windows, model_->config().vocab_size);
    EXPECT_TRUE(windows) << windows.error().message;
    return *windows;
  }

  ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
  std::unique_ptr<Model> model_ = Load("llama");
  std::optional<Tokenizer> tokenizer_;
};

TEST_F(PerplexityTest, IsThatOfAPlainCalculation) {
  const std::string text = SomeText(60);
  for (int64_t n_ctx : {16, 33, 130}) {  // 33: the middle of an odd window; 130: logits in two pieces
    const auto result = Measure(text, n_ctx);
    ASSERT_TRUE(result) << result.error().message;
    const auto tokens = tokenizer_->Encode(text, true, false);
    std::vector<double> nll;
    for (size_t begin = 0; begin + static_cast<size_t>(n_ctx) <= tokens.size();
         begin += static_cast<size_t>(n_ctx)) {
      const std::vector<TokenId> window(tokens.begin() + static_cast<long>(begin),
                                        tokens.begin() + static_cast<long>(begin) + n_ctx);
      const auto log_p = LogProbabilities(ctx_, *model_, window);
      for (int64_t i = n_ctx / 2 + 1; i < n_ctx; ++i) nll.push_back(-log_p[i - 1][window[i]]);
    }
    double sum = 0, sum2 = 0;
    for (double x : nll) sum += x, sum2 += x * x;
    const double n = static_cast<double>(nll.size()), mean = sum / n;
    EXPECT_EQ(result->n_tokens, static_cast<int64_t>(nll.size()));
    EXPECT_NEAR(result->ppl, std::exp(mean), 1e-4 * std::exp(mean));
    // llama.cpp's: the standard error of the mean, carried through exp.
    EXPECT_NEAR(result->ppl_se, std::exp(mean) * std::sqrt((sum2 / n - mean * mean) / (n - 1)),
                1e-3 * result->ppl_se);
    EXPECT_FALSE(result->kld_mean || result->reference_ppl || result->top1_agreement);
    EXPECT_GT(result->tokens_per_second, 0);
    EXPECT_GT(MeasurePeakMemory(ctx_, *model_, Windows(text, n_ctx), {}), 1 << 20);
  }
}

TEST_F(PerplexityTest, BosTakesTheFirstPlaceOfEachWindowWhereTheModelAddsIt) {
  TokenizerSpec spec = tokenizer_->spec();
  spec.add_bos = true;
  auto with_bos = Tokenizer::Create(spec);
  ASSERT_TRUE(with_bos);
  const std::string text = SomeText(20);
  const auto windows = SplitIntoWindows(*with_bos, text, 24, 0, model_->config().vocab_size);
  ASSERT_TRUE(windows) << windows.error().message;
  const auto result = MeasurePerplexity(ctx_, *model_, *with_bos, *windows, {}, nullptr);
  ASSERT_TRUE(result) << result.error().message;
  std::vector<TokenId> tokens = tokenizer_->Encode(text, false, false);
  tokens.insert(tokens.begin(), *spec.bos);
  double sum = 0;
  int n = 0;
  for (size_t begin = 0; begin + 24 <= tokens.size(); begin += 24) {
    std::vector<TokenId> window(tokens.begin() + static_cast<long>(begin),
                                tokens.begin() + static_cast<long>(begin) + 24);
    window[0] = *spec.bos;
    const auto log_p = LogProbabilities(ctx_, *model_, window);
    for (size_t i = 13; i < 24; ++i, ++n) sum -= log_p[i - 1][window[i]];
  }
  EXPECT_EQ(result->n_tokens, n);
  EXPECT_NEAR(std::log(result->ppl), sum / n, 1e-5);
  EXPECT_NE(result->ppl, Measure(text, 24)->ppl);
}

TEST_F(PerplexityTest, AModelAgreesWithItself) {
  const auto result = Measure(SomeText(60), 32, {.reference = model_.get()});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->ppl, *result->reference_ppl);
  EXPECT_NEAR(*result->kld_mean, 0, 1e-9);
  EXPECT_NEAR(*result->kld_p99, 0, 1e-9);
  EXPECT_EQ(*result->top1_agreement, 1);
}

TEST_F(PerplexityTest, DivergenceIsThatOfAPlainCalculation) {
  const auto other = Load("llama_rope_linear");
  const std::string text = SomeText(60);
  const auto result = Measure(text, 32, {.reference = other.get()});
  ASSERT_TRUE(result) << result.error().message;
  const auto tokens = tokenizer_->Encode(text, true, false);
  std::vector<double> kld;
  double reference_nll = 0;
  int same = 0;
  for (size_t begin = 0; begin + 32 <= tokens.size(); begin += 32) {
    const std::vector<TokenId> window(tokens.begin() + static_cast<long>(begin),
                                      tokens.begin() + static_cast<long>(begin) + 32);
    const auto q = LogProbabilities(ctx_, *model_, window), p = LogProbabilities(ctx_, *other, window);
    for (size_t i = 16; i < 31; ++i) {
      double sum = 0;
      for (size_t v = 0; v < p[i].size(); ++v) sum += std::exp(p[i][v]) * (p[i][v] - q[i][v]);
      kld.push_back(sum);
      reference_nll -= p[i][window[i + 1]];
      const auto top = [](const std::vector<double>& x) {
        return std::max_element(x.begin(), x.end()) - x.begin();
      };
      same += top(p[i]) == top(q[i]);
    }
  }
  const double n = static_cast<double>(kld.size());
  double mean = 0;
  for (double x : kld) mean += x / n;
  std::sort(kld.begin(), kld.end());
  EXPECT_NEAR(*result->reference_ppl, std::exp(reference_nll / n), 1e-4 * *result->reference_ppl);
  EXPECT_NEAR(*result->kld_mean, mean, 1e-4 * mean);
  EXPECT_GE(*result->kld_median, kld[(kld.size() - 1) / 2] - 1e-4);
  EXPECT_LE(*result->kld_median, kld[kld.size() / 2] + 1e-4);
  const size_t at = static_cast<size_t>(0.99 * (n - 1));
  EXPECT_GE(*result->kld_p99, kld[at] - 1e-3);
  EXPECT_LE(*result->kld_p99, kld[at + 1] + 1e-3);
  EXPECT_NEAR(*result->top1_agreement, same / n, 1e-12);
  EXPECT_LT(*result->top1_agreement, 1);
  EXPECT_EQ(result->scores.size(), kld.size());
}

TEST_F(PerplexityTest, ASavedReferenceGivesWhatTheModelGives) {
  const auto other = Load("llama_rope_linear");
  const std::string text = SomeText(60);
  const int64_t vocab_size = model_->config().vocab_size;
  SavedReference saved({.n_ctx = 32, .vocab_size = vocab_size, .top_k = vocab_size});
  ASSERT_TRUE(MeasurePerplexity(ctx_, *other, *tokenizer_, Windows(text, 32), {.save = &saved}, nullptr));
  const auto exact = Measure(text, 32, {.reference = other.get()});
  const auto result = Measure(text, 32, {.saved_reference = &saved});
  ASSERT_TRUE(exact && result);
  EXPECT_NEAR(*result->kld_mean, *exact->kld_mean, 1e-3 * *exact->kld_mean);
  EXPECT_NEAR(*result->kld_p99, *exact->kld_p99, 2e-3 * *exact->kld_p99);
  EXPECT_NEAR(*result->reference_ppl, *exact->reference_ppl, 1e-4 * *exact->reference_ppl);
  EXPECT_EQ(*result->top1_agreement, *exact->top1_agreement);
  EXPECT_EQ(result->ppl, exact->ppl);
  EXPECT_EQ(result->worst[0].position, exact->worst[0].position);

  const auto wrong = Measure(SomeText(61) + "x", 33, {.saved_reference = &saved});
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("-c 32"), std::string::npos) << wrong.error().message;
}

TEST_F(PerplexityTest, TheWorstPositionsAreShownWithBothModelsGuesses) {
  const auto other = Load("llama_rope_linear");
  const TokenWindows windows = Windows(SomeText(60), 32);
  const auto result =
      MeasurePerplexity(ctx_, *model_, *tokenizer_, windows, {.reference = other.get()}, nullptr);
  ASSERT_TRUE(result) << result.error().message;
  std::vector<double> kld;
  for (const TokenScore& score : result->scores) kld.push_back(score.kld);
  std::sort(kld.rbegin(), kld.rend());
  ASSERT_EQ(result->worst.size(), 10u);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(result->worst[i].kld, kld[i]);
  const WorstExample& worst = result->worst[0];
  const auto window = windows[worst.window];
  const auto end = window.begin() + worst.position + 1;
  EXPECT_EQ(worst.context, tokenizer_->Decode({window.begin(), end}));
  EXPECT_EQ(worst.next, tokenizer_->TokenBytes(*end, true));
  const auto p =
      LogProbabilities(ctx_, *other, {window.begin(), window.end()})[static_cast<size_t>(worst.position)];
  const size_t top = static_cast<size_t>(std::max_element(p.begin(), p.end()) - p.begin());
  ASSERT_EQ(worst.reference.size(), 3u);
  ASSERT_EQ(worst.model.size(), 3u);
  EXPECT_EQ(worst.reference[0].token, tokenizer_->TokenBytes(static_cast<TokenId>(top), true));
  EXPECT_NEAR(worst.reference[0].p, std::exp(p[top]), 1e-5);
  EXPECT_TRUE(Measure(SomeText(60), 32)->worst.empty());
}

TEST_F(PerplexityTest, PartsOfCharactersAreShownAsBytes) {
  const auto other = Load("llama_rope_linear");
  std::string text;
  for (int i = 0; i < 40; ++i) text += "\xed\x95\x9c\xea\xb8\x80";  // each character is several tokens
  const auto result = Measure(text, 16, {.reference = other.get()});
  ASSERT_TRUE(result) << result.error().message;
  bool part = false;
  for (const WorstExample& example : result->worst) {
    for (const std::string& shown : {example.context, example.next, example.model[0].token}) {
      EXPECT_EQ(ValidUtf8Length(shown), shown.size());
      part = part || shown.find("<0x") != std::string::npos;
    }
  }
  EXPECT_TRUE(part);
}

TEST_F(PerplexityTest, TextsPoolAsOne) {
  const auto other = Load("llama_rope_linear");
  const auto a = Measure(SomeText(60), 16, {.reference = other.get()});
  const auto b = Measure(SomeText(30), 16, {.reference = other.get()});
  ASSERT_TRUE(a && b);
  const PerplexityResult both = Pool({&*a, &*b});
  EXPECT_EQ(both.n_tokens, a->n_tokens + b->n_tokens);
  const double n = static_cast<double>(both.n_tokens), share = static_cast<double>(a->n_tokens) / n;
  EXPECT_NEAR(*both.kld_mean, share * *a->kld_mean + (1 - share) * *b->kld_mean, 1e-9);
  EXPECT_NEAR(std::log(both.ppl), share * std::log(a->ppl) + (1 - share) * std::log(b->ppl), 1e-9);
}

TEST_F(PerplexityTest, AReferenceOfAnotherVocabularyIsRefused) {
  const auto other = Load("qwen2");
  const auto result = Measure(SomeText(60), 32, {.reference = other.get()});
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("qwen2"), std::string::npos);
  EXPECT_NE(result.error().message.find("280"), std::string::npos) << result.error().message;
}

TEST_F(PerplexityTest, CancelsAndReportsProgress) {
  std::vector<double> done;
  const auto result = Measure(SomeText(60), 16, {}, [&](const Progress& p) {
    done.push_back(p.done);
    return done.size() < 2;
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(done, (std::vector<double>{16, 32}));
}

TEST_F(PerplexityTest, SizeCountsWhatTheWeightsOccupy) {
  const ModelSize size = MeasureSize(*model_);
  EXPECT_EQ(size.weight_bytes, 4 * size.n_parameters);  // stored in F32
  EXPECT_DOUBLE_EQ(size.bits_per_weight(), 32);
  EXPECT_GT(size.file_bytes, size.weight_bytes);
  EXPECT_DOUBLE_EQ(MeasureSize(*Load("qwen3")).bits_per_weight(), 16);  // stored in BF16
}

TEST_F(PerplexityTest, LayerErrorsAreZeroAgainstItselfAndNotAgainstOthers) {
  const auto same = MeasureLayerErrors(ctx_, *model_, *model_);
  ASSERT_EQ(same.size(), 2u * 7u);
  for (const LayerError& e : same) EXPECT_EQ(e.relative_error, 0);
  EXPECT_EQ(same[8].layer, 1);
  EXPECT_EQ(same[8].module, "k_proj");
  EXPECT_EQ(same[8].type, "F32");

  const auto other = Load("llama_rope_linear");
  const auto errors = MeasureLayerErrors(ctx_, *model_, *other);
  ASSERT_EQ(errors.size(), same.size());
  const Weight &w = model_->layers()[0].weight(Slot::kQ), &r = other->layers()[0].weight(Slot::kQ);
  double difference = 0, norm = 0;
  for (int64_t row = 0; row < w.n_out; ++row) {
    for (int64_t i = 0; i < w.n_in; ++i) {
      float a, b;
      std::memcpy(&a, w.row(row) + 4 * i, 4);
      std::memcpy(&b, r.row(row) + 4 * i, 4);
      difference += std::pow(a - b, 2);
      norm += std::pow(b, 2);
    }
  }
  EXPECT_NEAR(errors[0].relative_error, std::sqrt(difference / norm), 1e-5);
  EXPECT_TRUE(MeasureLayerErrors(ctx_, *model_, *Load("gemma3_text")).empty());
}

}  // namespace
}  // namespace thimble
