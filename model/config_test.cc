// Configurations from outside: what they mean, the way there and back, and what hostile ones are told.
#include "model/config.h"

#include <gmock/gmock.h>

#include "model/test_support.h"

namespace thimble {
namespace {

using testing::HasSubstr;

HfDirectory GoldenFolder(const std::string& name) {
  auto folder = ReadHfDirectory(kModelsDirectory + name);
  if (!folder) {
    ADD_FAILURE() << folder.error().message;
    std::abort();
  }
  return std::move(*folder);
}

ModelConfig ConfigOf(const HfDirectory& folder) {
  auto config = ModelConfigFromHf(folder);
  if (!config) {
    ADD_FAILURE() << config.error().message;
    std::abort();
  }
  return std::move(*config);
}

void ExpectSame(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.n_layers, b.n_layers);
  EXPECT_EQ(a.d_model, b.d_model);
  EXPECT_EQ(a.n_heads, b.n_heads);
  EXPECT_EQ(a.n_kv_heads, b.n_kv_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.d_ff, b.d_ff);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.context_length, b.context_length);
  EXPECT_EQ(a.rms_eps, b.rms_eps);
  EXPECT_FLOAT_EQ(static_cast<float>(a.rope_theta), static_cast<float>(b.rope_theta));
  EXPECT_FLOAT_EQ(static_cast<float>(a.rope_theta_local), static_cast<float>(b.rope_theta_local));
  EXPECT_EQ(a.rope_linear_factor, b.rope_linear_factor);
  EXPECT_EQ(a.sliding_window, b.sliding_window);
  EXPECT_EQ(a.is_local, b.is_local);
  EXPECT_FLOAT_EQ(a.attention_scale, b.attention_scale);
  EXPECT_EQ(a.tied_embeddings, b.tied_embeddings);
  ASSERT_EQ(a.rope_factors.size(), b.rope_factors.size());
  for (size_t i = 0; i < a.rope_factors.size(); ++i) EXPECT_NEAR(a.rope_factors[i], b.rope_factors[i], 1e-3);
}

// What a GGUF of the config says, with the two tensors that the config is read from.
struct GgufOf {
  explicit GgufOf(const ModelConfig& c) : factors(c.rope_factors) {
    gguf.file = *MappedFile::Open(kModelsDirectory + "llama/config.json");  // only its name is used
    ModelConfigToGguf(c, gguf.metadata);
    gguf.tensors.Add({"token_embd.weight", WeightType::kF32, {c.vocab_size, c.d_model}, {}});
    if (!c.tied_embeddings)
      gguf.tensors.Add({"output.weight", WeightType::kF32, {c.vocab_size, c.d_model}, {}});
    if (factors.empty()) return;
    const auto* bytes = reinterpret_cast<const uint8_t*>(factors.data());
    gguf.tensors.Add({"rope_freqs.weight",
                      WeightType::kF32,
                      {static_cast<int64_t>(factors.size())},
                      {bytes, factors.size() * sizeof(float)}});
  }
  std::vector<float> factors;
  GgufFile gguf;
};

class ConfigTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, ConfigTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

TEST_P(ConfigTest, ThereAndBackThroughConfigJson) {
  HfDirectory folder = GoldenFolder(GetParam());
  const ModelConfig config = ConfigOf(folder);
  auto json = ModelConfigToHf(config);
  ASSERT_TRUE(json) << json.error().message;
  folder.config = *json;
  ExpectSame(config, ConfigOf(folder));
}

TEST_P(ConfigTest, ThereAndBackThroughGguf) {
  const ModelConfig config = ConfigOf(GoldenFolder(GetParam()));
  const GgufOf file(config);
  const auto again = ModelConfigFromGguf(file.gguf);
  ASSERT_TRUE(again) << again.error().message;
  ExpectSame(config, *again);
}

struct HostileField {
  const char* field;
  Json value;  // discarded: the field is removed
};

TEST_P(ConfigTest, HostileConfigJsonIsToldWhichField) {
  const Json gone(Json::value_t::discarded);
  const HostileField cases[] = {
      {"num_hidden_layers", gone},
      {"num_hidden_layers", 0},
      {"num_hidden_layers", -1},
      {"num_hidden_layers", 1e9},
      {"num_hidden_layers", int64_t{1} << 62},
      {"num_hidden_layers", "2"},
      {"num_hidden_layers", true},
      {"num_hidden_layers", 2.5},
      {"num_hidden_layers", Json::array({2})},
      {"num_hidden_layers", UINT64_MAX},
      {"hidden_size", gone},
      {"hidden_size", 0},
      {"hidden_size", -64},
      {"hidden_size", int64_t{1} << 40},
      {"intermediate_size", gone},
      {"intermediate_size", 0},
      {"intermediate_size", Json::object()},
      {"num_attention_heads", gone},
      {"num_attention_heads", 0},
      {"num_attention_heads", -4},
      {"num_attention_heads", INT64_MAX},
      {"num_key_value_heads", 0},
      {"num_key_value_heads", -1},
      {"num_key_value_heads", "all"},
      {"head_dim", 0},
      {"head_dim", -2},
      {"head_dim", int64_t{1} << 33},
      {"vocab_size", gone},
      {"vocab_size", 0},
      {"vocab_size", int64_t{1} << 50},
      {"max_position_embeddings", 0},
      {"max_position_embeddings", -5},
      {"max_position_embeddings", int64_t{1} << 40},
      {"rms_norm_eps", 0},
      {"rms_norm_eps", -1e-5},
      {"rms_norm_eps", 1e9},
      {"rms_norm_eps", "small"},
      {"query_pre_attn_scalar", 0},
      {"query_pre_attn_scalar", -3},
      {"tie_word_embeddings", "yes"},
      {"rope_theta", 0},
      {"rope_theta", -1},
      {"rope_theta", "10000"},
      {"rope_theta", 1e300},
      {"rope_scaling", 3},
      {"sliding_window_pattern", -1},
      {"final_logit_softcapping", 30.0},
      {"model_type", 7},
      {"model_type", "mamba"},
  };
  HfDirectory folder = GoldenFolder(GetParam());
  const Json original = folder.config;
  for (const HostileField& c : cases) {
    SCOPED_TRACE(std::string(c.field) + " " + (c.value.is_discarded() ? "removed" : DumpJson(c.value)));
    folder.config = original;
    if (c.value.is_discarded()) {
      folder.config.erase(c.field);
    } else {
      folder.config[c.field] = c.value;
    }
    const auto config = ModelConfigFromHf(folder);
    ASSERT_FALSE(config);
    EXPECT_THAT(config.error().message, HasSubstr("config.json"));
    EXPECT_THAT(config.error().message, HasSubstr(c.field));
  }
  folder.config = Json::array();
  EXPECT_FALSE(ModelConfigFromHf(folder));
}

TEST(HostileConfigTest, FieldsThatDoNotFitEachOther) {
  HfDirectory folder = GoldenFolder("llama");
  folder.config["num_key_value_heads"] = 3;
  EXPECT_THAT(ModelConfigFromHf(folder).error().message,
              HasSubstr("4 attention heads cannot share 3 key-value heads"));
  folder.config["num_key_value_heads"] = 8;
  EXPECT_THAT(ModelConfigFromHf(folder).error().message, HasSubstr("cannot share 8"));
  folder = GoldenFolder("llama");
  folder.config["head_dim"] = 15;
  EXPECT_THAT(ModelConfigFromHf(folder).error().message, HasSubstr("15 is odd"));
  folder = GoldenFolder("gemma3_text_layer_types");
  folder.config["layer_types"].push_back("full_attention");
  EXPECT_THAT(ModelConfigFromHf(folder).error().message, HasSubstr("layer_types"));
  folder.config["layer_types"] = {"full_attention", "linear_attention", "full_attention", "full_attention"};
  EXPECT_THAT(ModelConfigFromHf(folder).error().message, HasSubstr("linear_attention"));
}

TEST(HostileConfigTest, RopeParameters) {
  HfDirectory folder = GoldenFolder("llama");
  const auto message = [&](const Json& rope) {
    folder.config["rope_parameters"] = rope;
    const auto config = ModelConfigFromHf(folder);
    return config ? std::string("accepted") : config.error().message;
  };
  EXPECT_THAT(message({{"rope_type", "yarn"}, {"factor", 4.0}}),
              HasSubstr("rope_parameters.rope_type is 'yarn'"));
  EXPECT_THAT(message({{"rope_type", "linear"}, {"factor", 0}}), HasSubstr("rope_parameters.factor"));
  EXPECT_THAT(message({{"rope_type", 4}}), HasSubstr("rope_parameters.rope_type"));
  EXPECT_THAT(message({{"rope_theta", -1}}), HasSubstr("rope_parameters.rope_theta"));
  EXPECT_THAT(message({{"rope_type", "llama3"}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}),
              HasSubstr("high_freq_factor"));
  EXPECT_THAT(message({{"rope_type", "llama3"}, {"original_max_position_embeddings", 0}}),
              HasSubstr("original_max_position_embeddings"));
  EXPECT_THAT(message({{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor"));
}

TEST(HostileConfigTest, GgufKeys) {
  const ModelConfig good = ConfigOf(GoldenFolder("llama"));
  struct Case {
    const char* key;
    MetadataValue value;
  };
  const Case cases[] = {
      {"block_count", {uint32_t{0}}},
      {"block_count", {uint64_t{1} << 60}},
      {"block_count", {int32_t{-1}}},
      {"block_count", {std::string("2")}},
      {"block_count", {2.0f}},
      {"block_count", {std::vector<uint32_t>{2}}},
      {"embedding_length", {uint32_t{0}}},
      {"embedding_length", {UINT64_MAX}},
      {"feed_forward_length", {uint32_t{0}}},
      {"attention.head_count", {uint32_t{0}}},
      {"attention.head_count", {int64_t{-4}}},
      {"attention.head_count_kv", {uint32_t{0}}},
      {"attention.key_length", {uint32_t{0}}},
      {"attention.value_length", {uint32_t{8}}},
      {"rope.dimension_count", {uint32_t{8}}},
      {"context_length", {uint32_t{0}}},
      {"attention.layer_norm_rms_epsilon", {0.0f}},
      {"attention.layer_norm_rms_epsilon", {NAN}},
      {"rope.freq_base", {-1.0f}},
      {"rope.freq_base", {INFINITY}},
      {"rope.scaling.type", {std::string("yarn")}},
      {"attention.scale", {-1.0f}},
      {"attention.sliding_window_pattern", {std::vector<bool>{true}}},
      {"attention.sliding_window_pattern", {int32_t{-2}}},
  };
  for (const Case& c : cases) {
    GgufOf file(good);
    const std::string key = std::string("llama.") + c.key;
    SCOPED_TRACE(key + " " + c.value.ToString());
    file.gguf.metadata.Set(key, c.value);
    const auto config = ModelConfigFromGguf(file.gguf);
    ASSERT_FALSE(config);
    EXPECT_THAT(config.error().message, HasSubstr(key));
  }
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "attention.head_count"}) {
    GgufOf file(good);
    file.gguf.metadata.Remove(std::string("llama.") + key);
    EXPECT_THAT(ModelConfigFromGguf(file.gguf).error().message, HasSubstr(key));
  }
  GgufOf file(good);
  file.gguf.metadata.Set("general.architecture", {std::string("mamba")});
  EXPECT_THAT(ModelConfigFromGguf(file.gguf).error().message, HasSubstr("mamba"));
  file.gguf.metadata.Remove("general.architecture");
  EXPECT_THAT(ModelConfigFromGguf(file.gguf).error().message, HasSubstr("general.architecture"));
}

// Sizes that are possible but are not those of the tensors, and tensors of a mechanism that we do not have.
TEST(HostileConfigTest, TensorsThatDoNotFit) {
  for (const char* field :
       {"hidden_size", "intermediate_size", "vocab_size", "head_dim", "num_attention_heads"}) {
    HfDirectory folder = GoldenFolder("llama");
    folder.config[field] = folder.config[field].get<int64_t>() * 2;
    const auto model = Model::Bind({.path = folder.path, .hf = folder});
    ASSERT_FALSE(model) << field;
    EXPECT_THAT(model.error().message, HasSubstr("has shape"));
  }
  HfDirectory folder = GoldenFolder("llama");
  folder.config["num_hidden_layers"] = 3;
  EXPECT_THAT(Model::Bind({.path = folder.path, .hf = folder}).error().message,
              HasSubstr("'model.layers.2.self_attn.q_proj.weight' is missing"));
  folder.config["num_hidden_layers"] = 1;
  EXPECT_THAT(Model::Bind({.path = folder.path, .hf = folder}).error().message, HasSubstr("has no place"));
  folder = GoldenFolder("qwen3");
  folder.config["model_type"] = "llama";
  EXPECT_THAT(Model::Bind({.path = folder.path, .hf = folder}).error().message,
              HasSubstr("norm.weight' has no place"));
}

}  // namespace
}  // namespace thimble
