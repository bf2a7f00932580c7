// Model folders and adapter folders.
#include <cmath>
#include <cstring>

#include "formats/hf_directory.h"
#include "formats/model_file.h"
#include "formats/peft_adapter.h"
#include "formats/test_support.h"

namespace thimble {
namespace {

class DirectoriesTest : public FormatsTest {
 protected:
  void WriteWeights(const std::string& name) {
    TensorTable tensors;
    tensors.Add({"w", WeightType::kF32, {1}, {reinterpret_cast<const uint8_t*>(&value_), 4}});
    ASSERT_TRUE(WriteSafetensors(Path(name), tensors));
  }
  const float value_ = 1;
};

TEST_F(DirectoriesTest, ModelFolder) {
  EXPECT_NE(ReadHfDirectory(directory_).error().message.find("config.json"), std::string::npos);
  Write("config.json", R"({"model_type": "llama"})");
  EXPECT_FALSE(ReadHfDirectory(directory_));  // no weights
  WriteWeights("model.safetensors");
  Write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})");
  auto model = OpenModelFile(directory_);
  ASSERT_TRUE(model) << model.error().message;
  ASSERT_TRUE(model->hf);
  EXPECT_EQ(model->hf->chat_template, "d");
  EXPECT_FALSE(model->hf->tokenizer);
  EXPECT_EQ(model->tensors().size(), 1u);
  Write("chat_template.jinja", "{{ messages }}");
  EXPECT_EQ(ReadHfDirectory(directory_)->chat_template, "{{ messages }}");
  Write("tokenizer.json", "[]");
  EXPECT_NE(ReadHfDirectory(directory_).error().message.find("tokenizer.json"), std::string::npos);
}

TEST_F(DirectoriesTest, AdapterRoundTrip) {
  PeftLoraConfig config;
  config.r = 4;
  config.lora_alpha = 12;
  config.target_modules = {"q_proj", "v_proj"};
  config.rank_pattern = {{"layers.1.self_attn.q_proj", 9}};
  config.alpha_pattern = {{"v_proj", 2}};
  config.use_rslora = true;
  TensorTable tensors;
  tensors.Add({"base_model.model.w.lora_A.weight",
               WeightType::kF32,
               {1},
               {reinterpret_cast<const uint8_t*>(&value_), 4}});
  const auto status = WritePeftAdapter(Path("adapter"), ToJson(config), tensors);
  ASSERT_TRUE(status) << status.error().message;
  const auto adapter = ReadPeftAdapter(Path("adapter"));
  ASSERT_TRUE(adapter) << adapter.error().message;
  EXPECT_EQ(adapter->peft_type, "LORA");
  EXPECT_EQ(adapter->lora.target_modules, config.target_modules);
  EXPECT_EQ(adapter->weights.tensors.size(), 1u);
  EXPECT_DOUBLE_EQ(adapter->lora.Scale("model.layers.0.self_attn.q_proj"), 12 / 2.0);
  EXPECT_DOUBLE_EQ(adapter->lora.Scale("model.layers.1.self_attn.q_proj"), 12 / 3.0);
  EXPECT_DOUBLE_EQ(adapter->lora.Scale("model.layers.11.self_attn.q_proj"),
                   12 / 2.0);  // the key begins at a dot
  EXPECT_DOUBLE_EQ(adapter->lora.Scale("model.layers.1.self_attn.v_proj"), 2 / 2.0);
}

TEST_F(DirectoriesTest, AdapterFieldsAreChecked) {
  WriteWeights("adapter_model.safetensors");
  const auto message = [&](const char* json) {
    Write("adapter_config.json", json);
    const auto adapter = ReadPeftAdapter(directory_);
    return adapter ? std::string() : adapter.error().message;
  };
  EXPECT_EQ(message(R"({"peft_type": "LORA", "r": 8, "target_modules": "all-linear", "rank_pattern": {}})"),
            "");
  EXPECT_EQ(message(R"({"peft_type": "IA3"})"), "");
  EXPECT_NE(message(R"({"r": 8})").find("peft_type"), std::string::npos);
  EXPECT_NE(message(R"({"peft_type": "LORA", "r": 0})").find("\"r\""), std::string::npos);
  EXPECT_NE(message(R"({"peft_type": "LORA", "r": "8"})").find("\"r\""), std::string::npos);
  EXPECT_NE(message(R"({"peft_type": "LORA", "lora_alpha": [1]})").find("lora_alpha"), std::string::npos);
  EXPECT_NE(message(R"({"peft_type": "LORA", "rank_pattern": {"(": 3}})").find("regular expression"),
            std::string::npos);
  EXPECT_NE(message(R"({"peft_type": "LORA", "target_modules": [1]})").find("target_modules"),
            std::string::npos);
  EXPECT_NE(message("[]").find("adapter_config.json"), std::string::npos);
}

TEST_F(DirectoriesTest, PickledAdaptersAreRefusedByName) {
  Write("adapter_config.json", R"({"peft_type": "LORA"})");
  Write("adapter_model.bin", "x");
  EXPECT_NE(ReadPeftAdapter(directory_).error().message.find("pickle"), std::string::npos);
}

}  // namespace
}  // namespace thimble
