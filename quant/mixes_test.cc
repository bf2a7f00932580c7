#include "quant/mixes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

struct Golden {
  MixShape shape;
  std::vector<MixTensor> tensors;
  Json types;
};

Golden ReadGolden(const std::string& path) {
  auto json = ReadJsonFile(path);
  EXPECT_TRUE(json.has_value()) << path;
  Golden golden;
  Metadata metadata;
  for (const auto& [key, value] : (*json)["metadata"].items()) {
    if (value.is_string()) metadata.Set(key, {value.get<std::string>()});
    if (value.is_number_integer()) metadata.Set(key, {value.get<uint32_t>()});
  }
  golden.shape = *MixShapeFromMetadata(metadata);
  for (const Json& t : (*json)["tensors"]) {
    golden.tensors.push_back({t[0], t[1].get<std::vector<int64_t>>(), WeightType::kF16});
  }
  golden.types = (*json)["types"];
  return golden;
}

// Files that tools/make_mix_goldens.py recorded from llama_model_quantize.
TEST(Mixes, ChoosesAsLlamaCpp) {
  int n_compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(THIMBLE_SOURCE_DIR "/tests/golden/mixes")) {
    if (entry.path().extension() != ".json") continue;
    const Golden golden = ReadGolden(entry.path());
    for (const auto& [mix, types] : golden.types.items()) {
      auto choices = ChooseTypes({.type = mix}, golden.shape, golden.tensors);
      ASSERT_TRUE(choices.has_value()) << choices.error().message;
      ASSERT_EQ(choices->size(), types.size());
      for (size_t i = 0; i < types.size(); ++i) {
        EXPECT_EQ(Name((*choices)[i].type), types[i].get<std::string>())
            << entry.path() << " " << mix << " " << golden.tensors[i].name;
        ++n_compared;
      }
    }
  }
  EXPECT_GT(n_compared, 10000);
}

const MixShape kShape = {"llama", 4, 4, 4};
const std::vector<MixTensor> kTensors = {{"token_embd.weight", {100, 256}, WeightType::kF32},
                                         {"blk.0.attn_norm.weight", {256}, WeightType::kF32},
                                         {"blk.0.attn_v.weight", {64, 256}, WeightType::kF32},
                                         {"blk.0.ffn_down.weight", {256, 96}, WeightType::kF32},
                                         {"output.weight", {100, 256}, WeightType::kF32}};

std::vector<std::string> Chosen(const MixOptions& options) {
  std::vector<std::string> names;
  const auto choices = *ChooseTypes(options, kShape, kTensors);
  for (const MixChoice& c : choices) names.push_back(Name(c.type));
  return names;
}

TEST(Mixes, OptionsGoBeforeRules) {
  using V = std::vector<std::string>;
  EXPECT_EQ(Chosen({.type = "q4_k"}), (V{"Q4_K", "F32", "Q6_K", "Q5_0", "Q6_K"}));
  EXPECT_EQ(Chosen({.type = "Q4_K_M", .pure = true}), (V{"Q4_K", "F32", "Q4_K", "Q5_0", "Q4_K"}));
  EXPECT_EQ(Chosen({.type = "Q4_K_M", .output_type = WeightType::kQ8_0, .embedding_type = WeightType::kF16}),
            (V{"F16", "F32", "Q6_K", "Q5_0", "Q8_0"}));
  EXPECT_EQ(
      Chosen({.type = "F16", .overrides = {{"attn_(v|k)", WeightType::kQ2_K}, {"blk", WeightType::kQ3_K}}}),
      (V{"F16", "F32", "Q2_K", "Q4_0", "F16"}));
}

TEST(Mixes, SaysWhatFellBack) {
  auto choices = *ChooseTypes({.type = "Q4_K_S"}, kShape, kTensors);
  EXPECT_TRUE(choices[3].fallback());
  EXPECT_EQ(choices[3].wanted, WeightType::kQ4_K);
  EXPECT_FALSE(choices[2].fallback());
  // Rows of 96 rule out the base type of the output matrix; llama.cpp goes to Q8_0 where it wanted Q6_K.
  const MixTensor output[] = {{"output.weight", {8, 96}, WeightType::kF32}};
  choices = *ChooseTypes({.type = "Q4_K_S"}, kShape, output);
  EXPECT_EQ(choices[0].type, WeightType::kQ8_0);
  EXPECT_EQ(choices[0].wanted, WeightType::kQ6_K);
}

TEST(Mixes, ErrorsNameWhatIsWrong) {
  auto unknown = FindMix("Q9_Z");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_THAT(unknown.error().message, HasSubstr("Q4_K_M"));
  EXPECT_THAT(unknown.error().message, HasSubstr("IQ4_XS"));
  EXPECT_EQ((*FindMix("int8"))->base, WeightType::kQ8_0);
  EXPECT_STREQ((*FindMix("q3_k"))->name, "Q3_K_M");
  EXPECT_FALSE(ParseTypeOverride("attn_v").has_value());
  EXPECT_FALSE(ParseTypeOverride("attn_v=Q9").has_value());
  EXPECT_FALSE(ParseTypeOverride("attn_v=I32").has_value());
  EXPECT_EQ(ParseTypeOverride("a=b=q6_k")->pattern, "a=b");
  auto bad = ChooseTypes({.type = "Q4_0", .overrides = {{"(", WeightType::kQ8_0}}}, kShape, kTensors);
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message, HasSubstr("regular expression"));
}

TEST(Mixes, SmallTypesNeedImportance) {
  const MixRow &small = **FindMix("Q2_K_S"), &other = **FindMix("Q2_K");
  for (const WeightType type :
       {WeightType::kIQ2_XXS, WeightType::kIQ2_XS, WeightType::kIQ2_S, WeightType::kIQ3_XXS}) {
    EXPECT_TRUE(NeedsImportance(other, "blk.0.attn_q.weight", type));
    EXPECT_FALSE(NeedsImportance(other, "token_embd.weight", type));
    EXPECT_FALSE(NeedsImportance(other, "output.weight", type));
  }
  EXPECT_TRUE(NeedsImportance(small, "blk.0.attn_q.weight", WeightType::kQ2_K));
  EXPECT_FALSE(NeedsImportance(other, "blk.0.attn_q.weight", WeightType::kQ2_K));
  EXPECT_FALSE(NeedsImportance(other, "blk.0.attn_q.weight", WeightType::kIQ3_S));
}

TEST(Mixes, FileTypesAreUnique) {
  for (const MixRow& row : AllMixes()) {
    EXPECT_EQ(FindMixByFileType(row.file_type), &row);
    EXPECT_EQ(*FindMix(row.name), &row);
  }
  EXPECT_EQ(FindMixByFileType(4), nullptr);
}

}  // namespace
}  // namespace thimble
