#include "eval/speed.h"

#include <gtest/gtest.h>

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
  auto both = MeasureSpeed(ctx, **model, {.n_prompt = 16, .n_gen = 4, .repeat = 3}, nullptr);
  ASSERT_TRUE(both) << both.error().message;
  EXPECT_EQ(both->prefill.size(), 3u);
  EXPECT_EQ(both->decode.size(), 3u);
  EXPECT_GT(Median(both->decode), 0);
  EXPECT_GT(both->peak_rss_bytes, 1 << 20);
  auto decode = MeasureSpeed(ctx, **model, {.n_prompt = 0, .n_gen = 4, .repeat = 1}, nullptr);
  ASSERT_TRUE(decode);
  EXPECT_TRUE(decode->prefill.empty());
  EXPECT_FALSE(MeasureSpeed(ctx, **model, {.n_prompt = 0, .n_gen = 0}, nullptr));
  const auto cancelled =
      MeasureSpeed(ctx, **model, {.n_prompt = 4, .n_gen = 0}, [](const Progress&) { return false; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace thimble
