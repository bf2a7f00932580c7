#include "eval/speed.h"

#include <gtest/gtest.h>

#include "eval/machine.h"

namespace thimble {
namespace {

TEST(Speed, MedianIsTheMiddle) {
  EXPECT_EQ(Median({}), 0);
  EXPECT_EQ(Median({3}), 3);
  EXPECT_EQ(Median({5, 1, 3}), 3);
  EXPECT_EQ(Median({4, 1, 3, 2}), 2.5);
}

TEST(Speed, MeasuresWhatIsAskedFor) {
  auto model = Model::Load(THIMBLE_SOURCE_DIR "/tests/golden/models/llama");
  ASSERT_TRUE(model) << model.error().message;
  ThreadPool pool(2);
  const Context ctx{.pool = pool};
  auto all = MeasureSpeed(ctx, **model, {.n_prompt = {16, 8}, .n_gen = {4}, .repeat = 3}, nullptr);
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ((*all)[1].Name(), "pp8");
  EXPECT_EQ((*all)[2].Name(), "tg4");
  for (const SpeedResult& result : *all) {
    EXPECT_EQ(result.rates.size(), 3u);
    EXPECT_GT(Median(result.rates), 0);
    EXPECT_GT(result.peak_rss_bytes, 1 << 20);
  }
  auto decode = MeasureSpeed(ctx, **model, {.n_prompt = {0}, .n_gen = {4}, .repeat = 1}, nullptr);
  ASSERT_TRUE(decode);
  EXPECT_EQ(decode->size(), 1u);
  EXPECT_FALSE(MeasureSpeed(ctx, **model, {.n_prompt = {0}, .n_gen = {}}, nullptr));
  EXPECT_FALSE(MeasureSpeed(ctx, **model, {.n_prompt = {-1}}, nullptr));
  const auto cancelled =
      MeasureSpeed(ctx, **model, {.n_prompt = {4}, .n_gen = {}}, [](const Progress&) { return false; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

TEST(Speed, CountsWhatATokenCosts) {
  auto model = Model::Load(THIMBLE_SOURCE_DIR "/tests/golden/models/llama");
  ASSERT_TRUE(model) << model.error().message;
  const ModelConfig& c = (*model)->config();
  const int64_t layer = 2 * c.d_model * (c.n_heads + c.n_kv_heads) * c.head_dim + 3 * c.d_model * c.d_ff;
  EXPECT_EQ(MultiplyAddsPerToken(**model), c.n_layers * layer);
  const int64_t weights = c.n_layers * layer + c.vocab_size * c.d_model + c.d_model;
  EXPECT_EQ(BytesPerToken(**model, 0, {}), weights * static_cast<int64_t>(sizeof(float)));
  const int64_t cached = 2 * c.n_layers * c.n_kv_heads * c.head_dim;
  EXPECT_EQ(BytesPerToken(**model, 100, {}), BytesPerToken(**model, 0, {}) + 50 * 2 * cached);
}

TEST(Speed, MeasuresTheMachine) {
  ThreadPool pool(2);
  const auto speed = MeasureMachine({.pool = pool});
  ASSERT_TRUE(speed) << speed.error().message;
  EXPECT_GT(speed->read_ordinary, 1e8);
  EXPECT_EQ(speed->int8 > 0, Kernels().int8_peak != nullptr);
  EXPECT_EQ(speed->read(), std::max(speed->read_ordinary, speed->read_huge));
}

}  // namespace
}  // namespace thimble
