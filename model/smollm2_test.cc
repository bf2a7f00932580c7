// The real model against Transformers and PEFT: ../shared/golden (its README says how the values were made).
#include "model/test_support.h"

namespace thimble {
namespace {

constexpr float kTolerance = 2e-3f;

class SmolLm2Test : public testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT(kSmolLm2);
    SKIP_WITHOUT(kSharedGolden);
    model_ = LoadModelOrDie(kSmolLm2);
  }

  // "ids" in their order and "logits" within the tolerance.
  void ExpectTop10(const Json& expected, const float* logits) const {
    EXPECT_EQ(TopIds(logits, model_->config().vocab_size, 10), expected["ids"].get<std::vector<int32_t>>());
    for (size_t i = 0; i < expected["ids"].size(); ++i) {
      EXPECT_NEAR(logits[expected["ids"][i].get<int32_t>()], expected["logits"][i].get<float>(), kTolerance);
    }
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
};

TEST_F(SmolLm2Test, LogitsAndGreedyTokens) {
  const Json golden = ReadJsonOrDie(kSharedGolden + "golden.json");
  for (const Json& c : golden["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const auto ids = c["token_ids"].get<std::vector<int32_t>>();
    const Tensor logits = Logits(ctx_, *model_, ForwardHidden(ctx_, *model_, {.tokens = ids}));
    ExpectTop10(c["first_position_top10"], logits.row(0));
    ExpectTop10(c["last_prompt_position_top10"], logits.row(logits.rows() - 1));
    EXPECT_EQ(Greedy(ctx_, *model_, ids, 32), c["greedy32_ids"].get<std::vector<int32_t>>());
  }
}

TEST_F(SmolLm2Test, PeftAdapters) {
  const Json golden = ReadJsonOrDie(kSharedGolden + "golden_adapters.json");
  for (const char* kind : {"base", "lora", "rslora", "dora", "ia3", "prompt", "prefix"}) {
    Adapter adapter;
    std::vector<AppliedAdapter> applied;
    if (std::string(kind) != "base") {
      auto loaded = LoadAdapter(kSharedGolden + "adapters/" + kind, *model_);
      ASSERT_TRUE(loaded) << loaded.error().message;
      adapter = std::move(*loaded);
      applied.push_back({.adapter = &adapter});
    }
    for (const Json& prompt : golden[kind]["prompts"]) {
      SCOPED_TRACE(kind);
      const auto ids = prompt["token_ids"].get<std::vector<int32_t>>();
      const Tensor hidden = ForwardHidden(ctx_, *model_, {.tokens = ids, .adapters = applied});
      const Tensor logits = Logits(ctx_, *model_, hidden);
      ExpectTop10(prompt["top10"], logits.row(logits.rows() - 1));
    }
  }
}

// What speculative decoding and a reused prefix rely on, in the deployed kernels: to the bit, in whichever
// pieces a text is read.
TEST_F(SmolLm2Test, PiecesOfATextDoNotChangeResults) {
  Context deployed = ctx_;
  deployed.compute = Compute::kInt8;
  const auto ids = RandomIds(160, model_->config().vocab_size, 1);
  const auto run = [&](const std::vector<size_t>& pieces) {
    KvCache cache(model_->config(), 160);
    std::vector<float> hidden;
    size_t done = 0;
    for (const size_t n : pieces) {
      const auto part = Values(
          ForwardHidden(deployed, *model_, {.tokens = std::span(ids).subspan(done, n), .cache = &cache}));
      hidden.insert(hidden.end(), part.begin(), part.end());
      done += n;
    }
    return hidden;
  };
  const std::vector<float> whole = run({160});
  EXPECT_EQ(whole, run({97, 1, 2, 3, 5, 8, 37, 7}));
  EXPECT_EQ(whole, run(std::vector<size_t>(160, 1)));
}

}  // namespace
}  // namespace thimble
