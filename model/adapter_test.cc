#include "model/adapter.h"

#include <gmock/gmock.h>

#include <cmath>
#include <list>

#include "base/file.h"
#include "codec/codec.h"
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
      const AdapterModule &m = adapter.layers[i][s], &p = peft->layers[i][s], &g = gguf->layers[i][s];
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
    const AdapterModule& m = adapter.layers[1][static_cast<size_t>(Slot::kQ)];
    // Head size 16: rows 0, 8, 1, 9, ... of each head.
    EXPECT_EQ(values[4 * 1], m.b.row(permuted ? 8 : 1)[0] * m.scale);
    EXPECT_EQ(values[4 * 18], m.b.row(permuted ? 17 : 18)[0] * m.scale);
  }
}

// Against the same model with its weights changed: rows of W + scale B A brought to DoRA's magnitudes, or
// columns and rows scaled by IA3. The model has biases; DoRA leaves them alone, IA3's output scale does not.
class OtherMethodsTest : public testing::Test {
 protected:
  struct Tensors {
    TensorTable table;
    std::vector<Tensor> kept;
    void Add(const std::string& name, const Tensor& t) {
      kept.push_back(t);
      const auto* bytes = reinterpret_cast<const uint8_t*>(t.data());
      table.Add({name, WeightType::kF32, {t.rows(), t.cols()}, {bytes, static_cast<size_t>(t.size()) * 4}});
    }
  };
  static Tensor AroundOne(int64_t rows, int64_t cols, uint64_t seed) {
    Random random(seed);
    const Tensor t = Tensor::Empty(rows, cols);
    for (int64_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(1 + 0.3 * random.Normal());
    return t;
  }
  std::vector<float> LogitsOf(const Model& model, std::span<const AppliedAdapter> adapters) {
    const Context ctx{.pool = pool_, .compute = Compute::kF32};
    return Values(Logits(ctx, model, ForwardHidden(ctx, model, {.tokens = ids_, .adapters = adapters})));
  }
  void ExpectNear(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_LE(LargestDifference(a.data(), b.data(), static_cast<int64_t>(a.size())), 5e-4f);
  }
  // The model's weight at layer 1, as numbers that may be changed.
  std::vector<float>& Changed(Model& model, Slot slot) {
    Weight& w = const_cast<Layer&>(model.layers()[1]).linear[static_cast<size_t>(slot)];
    std::vector<float>& values = changed_.emplace_back(static_cast<size_t>(w.n_out * w.n_in));
    for (int64_t i = 0; i < w.n_out; ++i) DecodeRow(w.type, w.row(i), values.data() + i * w.n_in, w.n_in);
    w.type = WeightType::kF32;
    w.data = reinterpret_cast<const uint8_t*>(values.data());
    w.packed = nullptr;
    return values;
  }

  const std::unique_ptr<Model> base_ = GoldenModel("llama_bias_tied"),
                               merged_ = GoldenModel("llama_bias_tied");
  const std::vector<int32_t> ids_ = RandomIds(9, 272, 3);
  const std::string layer_ = "base_model.model.model.layers.1.";
  ThreadPool pool_{2};
  TemporaryFolder folder_;
  std::list<std::vector<float>> changed_;
};

TEST_F(OtherMethodsTest, DoraIsItsMergedWeights) {
  const Adapter random = RandomAdapter(*base_, 4, 5);
  const AdapterModule& up = random.layers[1][static_cast<size_t>(Slot::kUp)];
  const Weight& w = base_->layers()[1].weight(Slot::kUp);
  const Tensor magnitude = AroundOne(w.n_out, 1, 7);
  Tensors tensors;
  tensors.Add(layer_ + "mlp.up_proj.lora_A.weight", up.a);
  tensors.Add(layer_ + "mlp.up_proj.lora_B.weight", up.b);
  PeftLoraConfig config{.r = 4, .lora_alpha = 6, .target_modules = {"up_proj"}, .use_dora = true};
  ASSERT_TRUE(WritePeftAdapter(folder_ / "dora", ToJson(config), tensors.table));
  EXPECT_THAT(LoadAdapter(folder_ / "dora", *base_).error().message, HasSubstr("has no magnitudes"));
  tensors.Add(layer_ + "mlp.up_proj.lora_magnitude_vector", magnitude);
  ASSERT_TRUE(WritePeftAdapter(folder_ / "dora", ToJson(config), tensors.table));
  const auto dora = LoadAdapter(folder_ / "dora", *base_);
  ASSERT_TRUE(dora) << dora.error().message;
  std::vector<float>& values = Changed(*merged_, Slot::kUp);
  for (int64_t i = 0; i < w.n_out; ++i) {
    float* row = values.data() + i * w.n_in;
    double squares = 0;
    for (int64_t j = 0; j < w.n_in; ++j) {
      for (int64_t r = 0; r < 4; ++r) row[j] += 1.5f * up.b.row(i)[r] * up.a.row(r)[j];
      squares += static_cast<double>(row[j]) * row[j];
    }
    for (int64_t j = 0; j < w.n_in; ++j)
      row[j] *= magnitude.data()[i] / static_cast<float>(std::sqrt(squares));
  }
  const std::vector<float> before = LogitsOf(*base_, {});
  const AppliedAdapter whole[] = {{.adapter = &*dora}}, none[] = {{.adapter = &*dora, .scale = 0}};
  ExpectNear(LogitsOf(*base_, whole), LogitsOf(*merged_, {}));
  ExpectNear(LogitsOf(*base_, none), before);
  EXPECT_GT(LargestDifference(before.data(), LogitsOf(*base_, whole).data(), 272), 0.01f);
  EXPECT_THAT(SaveGgufAdapter(*dora, *base_, folder_ / "dora.gguf").error().message, HasSubstr("only LoRA"));
}

TEST_F(OtherMethodsTest, Ia3IsItsMergedWeights) {
  const Weight &k = base_->layers()[1].weight(Slot::kK), &down = base_->layers()[1].weight(Slot::kDown);
  const Tensor k_scale = AroundOne(k.n_out, 1, 1), down_scale = AroundOne(1, down.n_in, 2);
  Tensors tensors;
  tensors.Add(layer_ + "self_attn.k_proj.ia3_l", k_scale);
  tensors.Add(layer_ + "mlp.down_proj.ia3_l", down_scale);
  const Json config = {{"peft_type", "IA3"}, {"feedforward_modules", {"down_proj"}}};
  ASSERT_TRUE(WritePeftAdapter(folder_ / "ia3", config, tensors.table));
  const auto ia3 = LoadAdapter(folder_ / "ia3", *base_);
  ASSERT_TRUE(ia3) << ia3.error().message;
  std::vector<float>& keys = Changed(*merged_, Slot::kK);
  float* const key_bias = merged_->layers()[1].bias[static_cast<size_t>(Slot::kK)].data();
  for (int64_t i = 0; i < k.n_out; ++i) {
    for (int64_t j = 0; j < k.n_in; ++j) keys[static_cast<size_t>(i * k.n_in + j)] *= k_scale.data()[i];
    key_bias[i] *= k_scale.data()[i];
  }
  std::vector<float>& downs = Changed(*merged_, Slot::kDown);
  for (size_t i = 0; i < downs.size(); ++i) downs[i] *= down_scale.data()[i % static_cast<size_t>(down.n_in)];
  const AppliedAdapter whole[] = {{.adapter = &*ia3}}, none[] = {{.adapter = &*ia3, .scale = 0}};
  ExpectNear(LogitsOf(*base_, whole), LogitsOf(*merged_, {}));
  ExpectNear(LogitsOf(*base_, none), LogitsOf(*GoldenModel("llama_bias_tied"), {}));
}

TEST_F(OtherMethodsTest, BottlenecksAndNormsThatDoNotFitAreRefused) {
  const Json config = {{"peft_type", "BOTTLENECK"}};
  const std::string down = layer_ + "mlp.down_proj.adapter_";
  const auto message = [&](const Json& json, std::initializer_list<std::pair<std::string, Tensor>> parts) {
    Tensors tensors;
    for (const auto& [name, tensor] : parts) tensors.Add(name, tensor);
    EXPECT_TRUE(WritePeftAdapter(folder_ / "broken", json, tensors.table));
    const auto adapter = LoadAdapter(folder_ / "broken", *base_);
    return adapter ? std::string("accepted") : adapter.error().message;
  };
  const Tensor d = AroundOne(4, 64, 1), u = AroundOne(64, 4, 2), d_bias = AroundOne(1, 4, 3),
               u_bias = AroundOne(1, 64, 4);
  const auto whole = [&](const Tensor& up) {
    return message(config, {{down + "down.weight", d},
                            {down + "down.bias", d_bias},
                            {down + "up.weight", up},
                            {down + "up.bias", u_bias}});
  };
  EXPECT_EQ(whole(u), "accepted");
  EXPECT_THAT(whole(AroundOne(64, 5, 2)), HasSubstr("lacks a part of its bottleneck, or their sizes differ"));
  EXPECT_THAT(whole(AroundOne(63, 4, 2)), HasSubstr("has shape [63, 4]"));
  EXPECT_THAT(message(config, {{down + "up.weight", u}}), HasSubstr("lacks a part of its bottleneck"));
  EXPECT_THAT(message(config, {{down + "down.bias", d_bias}}), HasSubstr("lacks a part of its bottleneck"));
  EXPECT_THAT(message(config, {{layer_ + "mlp.up_proj.adapter_down.weight", d}}),
              HasSubstr("stand after o_proj and down_proj only"));
  const Json norms = {{"peft_type", "LN_TUNING"}};
  EXPECT_EQ(message(norms, {{layer_ + "input_layernorm.ln_tuning_layers.weight", u_bias}}), "accepted");
  EXPECT_THAT(message(norms, {{layer_ + "input_layernorm.ln_tuning_layers.weight", d_bias}}),
              HasSubstr("has shape [1, 4]"));
  EXPECT_THAT(message(norms, {{layer_ + "q_norm.ln_tuning_layers.weight", u_bias}}), HasSubstr("is no norm"));
  EXPECT_THAT(message({{"peft_type", "OFT"}}, {{layer_ + "x", d}}), HasSubstr("OFT"));
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

  AdapterModule& q = adapter.layers[0][0];
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
    EXPECT_TRUE(WritePeftAdapter(folder / "one", ToJson(ConfigFor(adapter)), table));
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
