#include "quant/channel_scaling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "formats/gguf.h"
#include "quant/method_choice.h"
#include "quant/test_support.h"

namespace thimble {
namespace {

ExportPlan PlanOf(const std::string& path) {
  return PlanFromModelFile(OpenModelFile(path).value()).value();
}

ExportPlan QuantizedPlan(const std::string& path, WeightType type = WeightType::kQ8_0) {
  ExportPlan plan = PlanOf(path);
  for (ExportTensor& t : plan.tensors) {
    const bool fits = t.shape().size() == 2 && t.source.row_size() % Info(type).block_size == 0;
    if (fits) t.type = t.wanted = type;
  }
  return plan;
}

std::vector<float> LogitsOf(const Model& model, ThreadPool& pool) {
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const auto ids = RandomIds(40, model.config().vocab_size, 3);
  return Values(Logits(ctx, model, ForwardHidden(ctx, model, {.tokens = ids})));
}

class ChannelScalingTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, ChannelScalingTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

TEST_P(ChannelScalingTest, ScaledModelsComputeTheSameFloats) {
  const TemporaryFolder folder;
  ThreadPool pool(2);
  const std::string path = kModelsDirectory + GetParam();
  const ModelConfig config = GoldenModel(GetParam())->config();
  ExportPlan plain = PlanOf(path);
  for (ExportTensor& t : plain.tensors) t.type = WeightType::kF32;
  ExportPlan scaled = PlanOf(path);
  for (ExportTensor& t : scaled.tensors) t.type = WeightType::kQ4_0;
  const auto groups = ChannelGroups(scaled, config);
  ASSERT_EQ(groups.size(), 4 * static_cast<size_t>(config.n_layers));
  for (ExportTensor& t : scaled.tensors) t.type = WeightType::kF32;
  Random random(1);
  for (const ChannelGroup& group : groups) {
    std::vector<float> scales;
    for (int64_t i = 0; i < group.n_channels; ++i) {
      scales.push_back(std::ldexp(1.0f, static_cast<int>(random.Below(9)) - 4));
    }
    ApplyScales(group, scales, scaled);
  }
  ASSERT_TRUE(WriteGgufFromPlan(plain, folder / "plain.gguf", pool, nullptr, ""));
  ASSERT_TRUE(WriteGgufFromPlan(scaled, folder / "scaled.gguf", pool, nullptr, ""));
  const auto before = LoadModelOrDie(folder / "plain.gguf"), after = LoadModelOrDie(folder / "scaled.gguf");
  EXPECT_EQ(LogitsOf(*before, pool), LogitsOf(*after, pool));
  // Every matrix of a layer and every norm before one is another.
  for (size_t i = 0; i < before->layers().size(); ++i) {
    const Layer &a = before->layers()[i], &b = after->layers()[i];
    for (const Slot slot : {Slot::kAttnNorm, Slot::kFfnNorm})
      EXPECT_NE(Values(a.norm(slot)), Values(b.norm(slot)));
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      const Weight &w = a.linear[s], &v = b.linear[s];
      EXPECT_NE(std::memcmp(w.data, v.data, static_cast<size_t>(w.n_out * w.n_in) * sizeof(float)), 0) << s;
    }
  }
}

TEST(ChannelGroups, LeaveOutWhatIsNotRounded) {
  const std::string path = kModelsDirectory + "llama";
  const ModelConfig config = GoldenModel("llama")->config();
  EXPECT_TRUE(ChannelGroups(PlanOf(path), config).empty());
  const TemporaryFolder folder;
  ThreadPool pool(1);
  ASSERT_TRUE(WriteGgufFromPlan(QuantizedPlan(path), folder / "q8.gguf", pool, nullptr, ""));
  // Copied as they are.
  EXPECT_TRUE(ChannelGroups(QuantizedPlan(folder / "q8.gguf"), config).empty());
  ExportPlan plan = QuantizedPlan(folder / "q8.gguf", WeightType::kQ4_0);
  EXPECT_EQ(ChannelGroups(plan, config).size(), 4 * static_cast<size_t>(config.n_layers));
  for (ExportTensor& t : plan.tensors) {
    if (t.name == "blk.0.attn_v.weight") t.type = WeightType::kQ8_0;  // in one group, and before another
  }
  EXPECT_EQ(ChannelGroups(plan, config).size(), 4 * static_cast<size_t>(config.n_layers) - 2);
}

TEST(ChannelScales, ArePowersOfTwoByActivation) {
  const ChannelGroup group{.matrices = {}, .makers = {}, .channels = {0, 1, 2, 3}, .n_channels = 4};
  const float mean_squares[] = {1, 16, 256, 0};
  EXPECT_EQ(ChannelScales(group, mean_squares, 0), (std::vector<float>{1, 1, 1, 1}));
  const std::vector<float> scales = ChannelScales(group, mean_squares, 1);
  EXPECT_EQ(scales[1] / scales[0], 4);
  EXPECT_EQ(scales[2] / scales[1], 4);
  EXPECT_GT(scales[3], 0);
  EXPECT_LT(scales[3], scales[0]);
  // Query heads that share a channel of the values share its scale.
  const ChannelGroup shared{.matrices = {}, .makers = {}, .channels = {0, 1, 0, 1}, .n_channels = 2};
  const std::vector<float> channels = ChannelScales(shared, std::vector<float>{1, 1, 1, 31}, 1);
  ASSERT_EQ(channels.size(), 2u);
  EXPECT_EQ(channels[1] / channels[0], 4);
  EXPECT_EQ(ColumnScales(shared, channels),
            (std::vector<float>{channels[0], channels[1], channels[0], channels[1]}));
}

// The golden model with one channel of 32 pulled out: 64 times the activation, and weights as much smaller.
class MethodChoiceTest : public testing::Test {
 protected:
  MethodChoiceTest() {
    ExportPlan plan = QuantizedPlan(kModelsDirectory + "llama", WeightType::kQ4_0);
    const auto groups = ChannelGroups(plan, GoldenModel("llama")->config());
    for (ExportTensor& t : plan.tensors) t.type = WeightType::kF32;
    for (const ChannelGroup& group : groups) {
      std::vector<float> scales(static_cast<size_t>(group.n_channels), 1);
      for (size_t i = 5; i < scales.size(); i += 32) scales[i] = 1.0f / 64;
      ApplyScales(group, scales, plan);
    }
    EXPECT_TRUE(WriteGgufFromPlan(plan, path_, pool_, nullptr, ""));
    model_ = LoadModelOrDie(path_);
    calibration_ = CalibratedOrDie(pool_, *model_, {RandomIds(96, 272, 1)}, folder_ / "calibration.gguf");
  }
  double Cost(const char* method) {
    ExportPlan plan = QuantizedPlan(path_, WeightType::kQ4_0);
    auto methods = ChooseMethods(*FindMethod(method), calibration_, model_->config(), pool_, nullptr, plan);
    EXPECT_TRUE(methods);
    methods_ = std::move(*methods);
    described_ = DescribeMethods(methods_, plan);
    double cost = 0;
    for (const ExportTensor& t : plan.tensors) {
      if (!calibration_.Has(t.name)) continue;
      const LayerStatistics s = calibration_.Read(t.name).value();
      const HessianFactor factor = Factorize(pool_, Kernels(), s.hessian).value();
      const auto own = methods_.own.find(t.name);
      const RoundingMethod method = own != methods_.own.end() ? own->second : methods_.common;
      cost += MeasureRounding(t, t.type, method, s, factor, pool_).kld;
    }
    return cost;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "outliers.gguf";
  ThreadPool pool_{2};
  std::unique_ptr<Model> model_;
  CalibrationFile calibration_;
  Methods methods_;
  std::string described_;
};

TEST_F(MethodChoiceTest, ScalingHelpsWhereAChannelStandsOut) {
  const double rtn = Cost("rtn"), imatrix = Cost("imatrix");
  EXPECT_TRUE(methods_.own.empty());
  const double awq = Cost("awq");
  EXPECT_NE(described_.find("with scaled channels"), std::string::npos) << described_;
  EXPECT_LT(imatrix, rtn);
  EXPECT_LT(awq, 0.8 * imatrix);
}

TEST_F(MethodChoiceTest, AutoIsTheBestOfAll) {
  const double best = Cost("auto");
  EXPECT_EQ(methods_.own.size(), 7 * model_->layers().size() + 2) << described_;
  for (const MethodRow& row : AllMethods()) EXPECT_LE(best, 1.0001 * Cost(row.name)) << row.name;
}

TEST_F(MethodChoiceTest, Cancels) {
  ExportPlan plan = QuantizedPlan(path_, WeightType::kQ4_0);
  const auto cancelled = ChooseMethods(
      *FindMethod("auto"), calibration_, model_->config(), pool_,
      [](const Progress& p) { return p.done < 3; }, plan);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(FindMethod("best"), nullptr);
}

}  // namespace
}  // namespace thimble
