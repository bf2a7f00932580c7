#include "model/adapter.h"

#include <gmock/gmock.h>

#include "formats/gguf_lora.h"
#include "formats/safetensors.h"
#include "model/test_support.h"

namespace thimble {
namespace {

using testing::HasSubstr;

class AdapterTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, AdapterTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

PeftLoraConfig ConfigFor(const Adapter& adapter) {
  PeftLoraConfig config;
  config.r = 4;
  config.lora_alpha = 4.0 * adapter.layers[0][0].scale;
  config.target_modules = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  return config;
}

TEST_P(AdapterTest, ThereAndBackThroughPeftAndGguf) {
  const TemporaryFolder folder;
  const auto model = GoldenModel(GetParam());
  const Adapter adapter = RandomAdapter(*model, 4, 1);
  ASSERT_TRUE(SavePeftAdapter(adapter, *model, ConfigFor(adapter), folder / "peft"));
  const auto peft = LoadAdapter(folder / "peft", *model);
  ASSERT_TRUE(peft) << peft.error().message;
  ASSERT_TRUE(SaveGgufAdapter(adapter, *model, folder / "lora.gguf"));
  const auto gguf = LoadAdapter(folder / "lora.gguf", *model);
  ASSERT_TRUE(gguf) << gguf.error().message;
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      const LoraModule &m = adapter.layers[i][s], &p = peft->layers[i][s], &g = gguf->layers[i][s];
      EXPECT_EQ(Values(m.a), Values(p.a));
      EXPECT_EQ(Values(m.b), Values(p.b));
      EXPECT_EQ(m.scale, p.scale);
      EXPECT_EQ(Values(m.a), Values(g.a));
      EXPECT_EQ(g.scale, 1);  // the scale is in B
      auto scaled = Values(m.b);
      for (float& b : scaled) b *= m.scale;
      EXPECT_EQ(scaled, Values(g.b));
    }
  }
}

// GGUF's Llama has the rows of Q and K in another order, so its adapters must have them so too.
TEST(AdapterFilesTest, GgufPermutesHeadsOfLlamaOnly) {
  for (const auto& [name, permuted] : {std::pair{"llama", true}, {"qwen2", false}}) {
    const TemporaryFolder folder;
    const auto model = GoldenModel(name);
    const Adapter adapter = RandomAdapter(*model, 4, 1);
    ASSERT_TRUE(SaveGgufAdapter(adapter, *model, folder / "lora.gguf"));
    const auto file = ReadGgufLora(folder / "lora.gguf");
    ASSERT_TRUE(file);
    EXPECT_EQ(file->arch, name);
    const TensorInfo* b = file->file.tensors.Find("blk.1.attn_q.weight.lora_b");
    ASSERT_NE(b, nullptr);
    const auto* values = reinterpret_cast<const float*>(b->bytes.data());
    const LoraModule& m = adapter.layers[1][static_cast<size_t>(Slot::kQ)];
    // Head size 16: rows 0, 8, 1, 9, ... of each head.
    EXPECT_EQ(values[4 * 1], m.b.row(permuted ? 8 : 1)[0] * m.scale);
    EXPECT_EQ(values[4 * 18], m.b.row(permuted ? 17 : 18)[0] * m.scale);
  }
}

TEST(AdapterFilesTest, OtherModelsAndBrokenFilesAreRefused) {
  const TemporaryFolder folder;
  const auto llama = GoldenModel("llama"), gemma = GoldenModel("gemma3_text"), qwen = GoldenModel("qwen2");
  Adapter adapter = RandomAdapter(*llama, 4, 1);
  ASSERT_TRUE(SavePeftAdapter(adapter, *llama, ConfigFor(adapter), folder / "peft"));
  ASSERT_TRUE(SaveGgufAdapter(adapter, *llama, folder / "lora.gguf"));
  const auto message = [&](const std::string& path, const Model& model) {
    const auto loaded = LoadAdapter(folder / path, model);
    return loaded ? std::string("accepted") : loaded.error().message;
  };
  EXPECT_THAT(message("peft", *gemma), HasSubstr("the model needs"));
  EXPECT_THAT(message("lora.gguf", *qwen), HasSubstr("architecture 'llama', the model is 'qwen2'"));
  EXPECT_THAT(message("absent", *llama), HasSubstr("absent"));

  LoraModule& q = adapter.layers[0][0];
  q.b.data()[3] = NAN;
  ASSERT_TRUE(SavePeftAdapter(adapter, *llama, ConfigFor(adapter), folder / "nan"));
  EXPECT_THAT(message("nan", *llama), HasSubstr("q_proj.lora_B.weight' holds a value that is not finite"));

  const auto only = [&](const std::string& name, int64_t rows, int64_t cols) {
    static const Tensor zeros = Tensor::Zeros(1, 4096);
    TensorTable table;
    table.Add({name,
               WeightType::kF32,
               {rows, cols},
               {reinterpret_cast<const uint8_t*>(zeros.data()), static_cast<size_t>(rows * cols) * 4}});
    EXPECT_TRUE(WritePeftAdapter(folder / "one", ConfigFor(adapter), table));
    return message("one", *llama);
  };
  const std::string module = "base_model.model.model.layers.0.self_attn.q_proj";
  EXPECT_THAT(only(module + ".lora_A.weight", 4, 64), HasSubstr("lacks one of lora_A and lora_B"));
  EXPECT_THAT(only(module + ".lora_A.weight", 4, 63), HasSubstr("shape [4, 63]"));
  EXPECT_THAT(only(module + ".lora_B.weight", 63, 4), HasSubstr("shape [63, 4]"));
  EXPECT_THAT(only(module + ".lora_magnitude_vector", 1, 64), HasSubstr("is not the LoRA of a linear layer"));
  EXPECT_THAT(only("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", 4, 64),
              HasSubstr("layers.9"));
}

}  // namespace
}  // namespace thimble
