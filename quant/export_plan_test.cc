#include "quant/export_plan.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "formats/test_support.h"
#include "model/adapter.h"
#include "quant/convert_adapter.h"
#include "quant/hf_export.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

const std::string kLlama = THIMBLE_SOURCE_DIR "/tests/golden/models/llama";

class ExportPlanTest : public FormatsTest {
 protected:
  // A GGUF of one layer's matrices: 0.01 i in row-major order, rows of 256 and 96.
  std::string WriteModel(const std::string& name, float first = 0.5f) {
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = 0.01f * static_cast<float>(i % 199) - 1;
    values_[0] = first;
    Metadata metadata;
    metadata.Set("general.architecture", {std::string("llama")});
    metadata.Set("llama.block_count", {uint32_t{1}});
    metadata.Set("llama.attention.head_count", {uint32_t{4}});
    metadata.Set("split.no", {uint16_t{0}});
    metadata.Set("split.count", {uint16_t{1}});
    auto writer = GgufWriter::Create(Path(name), metadata,
                                     {{"blk.0.attn_q.weight", WeightType::kF32, {8, 256}},
                                      {"blk.0.ffn_down.weight", WeightType::kF32, {4, 96}}});
    EXPECT_TRUE(writer.has_value());
    const auto* bytes = reinterpret_cast<const uint8_t*>(values_.data());
    EXPECT_TRUE(writer->Write({bytes, 8 * 256 * sizeof(float)}));
    EXPECT_TRUE(writer->Write({bytes, 4 * 96 * sizeof(float)}));
    EXPECT_TRUE(writer->Finish());
    return Path(name);
  }

  Result<ExportStats> Quantize(const std::string& in, const std::string& out, const std::string& type,
                               const ProgressFn& progress = nullptr) {
    ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(in));
    ASSIGN_OR_RETURN(ExportPlan plan, PlanFromModelFile(std::move(source)));
    RETURN_IF_ERROR(ApplyMix({.type = type}, plan));
    return WriteGgufFromPlan(plan, out, pool_, progress, "quantize");
  }

  std::vector<float> values_ = std::vector<float>(8 * 256);
  ThreadPool pool_{2};
};

TEST_F(ExportPlanTest, SaysWhatFallingBackCost) {
  const auto stats = Quantize(WriteModel("a.gguf"), Path("b.gguf"), "Q4_K_S");
  ASSERT_TRUE(stats.has_value()) << stats.error().message;
  const double all = 8 * 256 + 4 * 96, fallen = 4 * 96;
  EXPECT_EQ(stats->n_fallback(), 1);
  EXPECT_DOUBLE_EQ(stats->fallback_share(), fallen / all);
  EXPECT_NEAR(stats->fallback_bits(), fallen * (5.5 - 4.5) / all, 1e-12);  // Q5_0 for Q4_K
  EXPECT_NEAR(stats->bits_per_weight(), (fallen * 5.5 + (all - fallen) * 4.5) / all, 1e-12);
  EXPECT_GT(stats->relative_error(), 0.005);
  EXPECT_LT(stats->relative_error(), 0.1);
  const auto file = ReadGguf(Path("b.gguf"));
  EXPECT_EQ(file->metadata.Int("general.file_type"), 14);
  EXPECT_FALSE(file->metadata.Has("split.count"));
}

TEST_F(ExportPlanTest, SplitModelsAndAdaptersAreRefused) {
  Metadata metadata;
  metadata.Set("split.count", {uint16_t{3}});
  ASSERT_TRUE(GgufWriter::Create(Path("part.gguf"), metadata, {})->Finish());
  EXPECT_THAT(PlanFromModelFile(*OpenModelFile(Path("part.gguf"))).error().message, HasSubstr("split"));
  metadata.Set("general.type", {std::string("adapter")});
  ASSERT_TRUE(GgufWriter::Create(Path("lora.gguf"), metadata, {})->Finish());
  EXPECT_THAT(PlanFromModelFile(*OpenModelFile(Path("lora.gguf"))).error().message, HasSubstr("adapter"));
}

TEST_F(ExportPlanTest, ValuesThatTheTypeCannotHold) {
  const std::string nan = WriteModel("nan.gguf", std::numeric_limits<float>::quiet_NaN());
  for (const char* type : {"Q8_0", "F16"}) {
    const auto stats = Quantize(nan, Path("out.gguf"), type);
    ASSERT_FALSE(stats.has_value());
    EXPECT_THAT(stats.error().message, HasSubstr("blk.0.attn_q.weight"));
    ExpectNamesFile(stats.error(), nan);
  }
  const std::string large = WriteModel("large.gguf", 1e6f);
  EXPECT_THAT(Quantize(large, Path("out.gguf"), "F16").error().message, HasSubstr("beyond the range of F16"));
  EXPECT_TRUE(Quantize(large, Path("out.gguf"), "BF16").has_value());
}

TEST_F(ExportPlanTest, CancellingLeavesTheOldFile) {
  const std::string out = Write("out.gguf", "old");
  const auto stats = Quantize(WriteModel("a.gguf"), out, "Q8_0", [](const Progress&) { return false; });
  ASSERT_FALSE(stats.has_value());
  EXPECT_EQ(stats.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(*ReadFile(out), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 2);
}

class HfExportTest : public ExportPlanTest {
 protected:
  void SetUp() override {
    ExportPlanTest::SetUp();
    ASSERT_TRUE(Quantize(kLlama, Path("llama.gguf"), "F32").has_value());
  }
};

TEST_F(HfExportTest, ShardsAndTheirIndex) {
  const auto source = OpenModelFile(Path("llama.gguf"));
  const auto stats =
      WriteHfDirectory(*source, {.max_shard_bytes = 100'000}, Path("hf"), pool_, nullptr, "convert");
  ASSERT_TRUE(stats.has_value()) << stats.error().message;
  const auto index = ReadJsonFile(Path("hf") + "/model.safetensors.index.json");
  ASSERT_TRUE(index.has_value());
  EXPECT_EQ((*index)["metadata"]["total_size"], stats->bytes_out);
  EXPECT_EQ((*index)["weight_map"].size(), 21u);
  const auto before = OpenModelFile(kLlama), after = OpenModelFile(Path("hf"));
  ASSERT_TRUE(after.has_value()) << after.error().message;
  EXPECT_GT(after->hf->weights.files.size(), 3u);
  for (const auto& file : after->hf->weights.files) EXPECT_LT(file->bytes().size(), 105'000u);
  for (const TensorInfo& want : before->tensors()) {
    const TensorInfo* got = after->tensors().Find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_TRUE(std::equal(got->bytes.begin(), got->bytes.end(), want.bytes.begin(), want.bytes.end()));
  }
}

TEST_F(HfExportTest, CancellingLeavesNoFolder) {
  const auto source = OpenModelFile(Path("llama.gguf"));
  int calls = 0;
  const auto stats = WriteHfDirectory(
      *source, {.max_shard_bytes = 100'000}, Path("hf"), pool_, [&](const Progress&) { return ++calls < 15; },
      "convert");
  ASSERT_FALSE(stats.has_value());
  EXPECT_EQ(stats.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(Path("hf")));
}

TEST(ConvertAdapter, PatternsSayWhatDiffers) {
  const auto model = Model::Load(kLlama);
  ASSERT_TRUE(model.has_value());
  Adapter adapter;
  adapter.layers.resize(2);
  const auto add = [&](int layer, Slot slot, int64_t rank, float scale) {
    auto& module = adapter.layers[layer][static_cast<size_t>(slot)];
    module = {Tensor::Empty(rank, 64), Tensor::Empty(64, rank), scale};
  };
  add(0, Slot::kQ, 4, 2);
  add(1, Slot::kQ, 4, 2);
  add(0, Slot::kO, 8, 1);
  add(1, Slot::kO, 4, 1);
  add(1, Slot::kV, 4, 2);
  const PeftLoraConfig config = PeftConfigOf(adapter, **model);
  EXPECT_EQ(config.r, 4);
  EXPECT_EQ(config.lora_alpha, 8);
  EXPECT_THAT(config.target_modules,
              ::testing::UnorderedElementsAre("q_proj", "o_proj", "model.layers.1.self_attn.v_proj"));
  for (int layer : {0, 1}) {
    for (Slot slot : {Slot::kQ, Slot::kO, Slot::kV}) {
      const AdapterModule& module = adapter.layers[layer][static_cast<size_t>(slot)];
      if (!module.a) continue;
      const std::string name = HfModuleName(*(*model)->config().arch, slot, layer);
      EXPECT_FLOAT_EQ(static_cast<float>(config.Scale(name)), module.scale) << name;
    }
  }
}

}  // namespace
}  // namespace thimble
