#include "formats/quantized_checkpoint.h"

#include <gmock/gmock.h>

#include <cstring>

#include "base/half.h"
#include "codec/codec.h"
#include "formats/hf_directory.h"
#include "formats/test_support.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

const std::string kGoldens = THIMBLE_SOURCE_DIR "/tests/golden/import/matrices/";
const std::string kModule = "model.layers.0.mlp.down_proj";

// What tools/make_import_goldens.py's libraries read, in the type of its numbers.
void ExpectSameNumbers(const TensorInfo& got, const TensorInfo& want) {
  ASSERT_EQ(got.name, want.name);
  ASSERT_EQ(got.shape, want.shape);
  const int64_t n = got.n_elements();
  std::vector<float> a(static_cast<size_t>(n)), b(static_cast<size_t>(n));
  DecodeRow(got.type, got.bytes.data(), a.data(), n);
  DecodeRow(want.type, want.bytes.data(), b.data(), n);
  for (size_t i = 0; i < a.size(); ++i) {
    if (want.type == WeightType::kF16) a[i] = HalfToFloat(FloatToHalf(a[i]));
    if (want.type == WeightType::kBF16) a[i] = Bf16ToFloat(FloatToBf16(a[i]));
    ASSERT_EQ(a[i], b[i]) << "at " << i;
  }
}

TEST(QuantizedCheckpoint, NumbersAreThoseOfTheLibraries) {
  using enum WeightType;
  const struct {
    const char* name;
    WeightType type;
    const char* loss;
  } cases[] = {
      {"gptq_4bit_sym", kQ4_0, ""},
      {"gptq_4bit_asym_row", kQ5_0, ""},
      {"gptq_4bit_ragged", kQ4_0, ""},  // groups of 64 in rows of 96
      {"gptq_4bit_desc_act", kF16, "g_idx"},
      {"gptq_2bit_asym", kQ4_0, ""},
      {"gptq_3bit_sym", kQ4_0, ""},
      {"gptq_3bit_asym", kQ4_0, ""},
      {"gptq_8bit_sym", kQ8_0, ""},
      {"gptq_8bit_asym", kF16, "8 bits"},
      {"gptq_v2_4bit_sym", kQ4_0, ""},
      {"gptq_v2_4bit_asym", kQ5_0, ""},
      {"gptq_v2_4bit_positive", kQ4_1, ""},  // all zeros are 0
      {"gptq_v2_3bit_asym", kQ4_0, ""},
      {"awq", kQ5_0, ""},
      {"awq_row", kQ5_0, ""},
      {"ct_4bit_sym", kQ4_0, ""},
      {"ct_4bit_sym_bf16", kQ4_0, ""},
      {"ct_4bit_sym_f32", kF32, "scales"},
      {"ct_4bit_asym_bf16", kQ4_1, ""},  // each zero times its scale is an F16 number
      {"ct_4bit_g_idx", kF16, "g_idx"},
      {"ct_8bit_sym_row", kQ8_0, ""},
      {"ct_8bit_asym", kF16, "8 bits"},
      {"ct_int_row", kQ8_0, ""},
      {"ct_int_asym_tensor", kF16, "8 bits"},
      {"ct_4bit_asym_tensor", kQ5_0, ""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    auto directory = ReadHfDirectory(kGoldens + c.name);
    ASSERT_TRUE(directory.has_value()) << directory.error().message;
    EXPECT_EQ(directory->weights.tensors.size(), 0u);
    ASSERT_EQ(directory->coded.size(), 1u);
    ASSERT_TRUE(UnpackMatrices(*directory));
    const auto expected = ReadSafetensors(kGoldens + c.name + "/expected.safetensors");
    ASSERT_TRUE(expected.has_value());
    EXPECT_STREQ(Name(directory->imported[0].type), Name(c.type));
    EXPECT_EQ(directory->imported[0].loss.empty(), *c.loss == '\0') << directory->imported[0].loss;
    EXPECT_THAT(directory->imported[0].loss, HasSubstr(c.loss));
    ExpectSameNumbers(directory->weights.tensors.tensors()[0], expected->tensors.tensors()[0]);
  }
}

// A copy of a golden that can be damaged.
class DamagedCheckpoint : public FormatsTest {
 protected:
  void Open(const std::string& name) {
    file_ = *ReadSafetensors(kGoldens + name + "/model.safetensors");
    config_ = *ReadJsonFile(kGoldens + name + "/config.json");
  }
  Json& config() { return config_["quantization_config"]; }

  // With the tensor of this suffix left out, or as `change` leaves it.
  std::string ErrorWith(const std::string& suffix, const std::function<void(TensorInfo&)>& change = nullptr) {
    TensorTable tensors;
    for (TensorInfo t : file_.tensors) {
      if (t.name == kModule + suffix) {
        if (!change) continue;
        bytes_.assign(t.bytes.begin(), t.bytes.end());
        t.bytes = bytes_;
        change(t);
      }
      tensors.Add(t);
    }
    EXPECT_TRUE(WriteSafetensors(Path("model.safetensors"), tensors));
    return Error();
  }
  std::string Error() {
    Write("config.json", DumpJson(config_));
    if (!std::filesystem::exists(Path("model.safetensors"))) {
      EXPECT_TRUE(WriteSafetensors(Path("model.safetensors"), file_.tensors));
    }
    auto directory = ReadHfDirectory(directory_);
    const Status status = directory ? UnpackMatrices(*directory) : Status(tl::unexpected(directory.error()));
    EXPECT_FALSE(status.has_value());
    if (status) return "";
    ExpectNamesFile(status.error(), directory_);
    return status.error().message;
  }
  // An I32 or F16 at the front.
  template <typename T>
  auto Begin(T value) {
    return [this, value](TensorInfo&) { std::memcpy(bytes_.data(), &value, sizeof(value)); };
  }
  // Half as many rows.
  void Halve(TensorInfo& t) {
    t.shape[0] /= 2;
    t.bytes = t.bytes.first(t.bytes.size() / 2);
  }

  SafetensorsFile file_;
  Json config_;
  std::vector<uint8_t> bytes_;
};

TEST_F(DamagedCheckpoint, Gptq) {
  Open("gptq_4bit_asym_row");
  for (const char* suffix : {".qzeros", ".scales"}) {
    EXPECT_THAT(ErrorWith(suffix), HasSubstr(kModule + suffix + "' is missing"));
  }
  for (const char* suffix : {".qweight", ".g_idx"}) {
    EXPECT_THAT(ErrorWith(suffix, [&](TensorInfo& t) { Halve(t); }),
                HasSubstr(kModule + ".qweight' has shape"));
  }
  EXPECT_THAT(ErrorWith(".g_idx", Begin(int32_t{1})), HasSubstr(".g_idx' holds group 1, but there are 1"));
  EXPECT_THAT(ErrorWith(".g_idx", Begin(int32_t{-2})), HasSubstr("holds group -2"));
  EXPECT_THAT(ErrorWith(".scales", Begin(uint16_t{0x7e00})), HasSubstr("scale that is not finite"));
  EXPECT_THAT(ErrorWith(".scales", [](TensorInfo& t) { t.type = WeightType::kI16; }), HasSubstr("type I16"));
  config()["group_size"] = 32;
  EXPECT_THAT(ErrorWith(".g_idx"), HasSubstr("1 groups of scales, which are not 96 columns by 32"));
  config()["bits"] = 2;
  EXPECT_THAT(ErrorWith(".none"), HasSubstr("for 2 bits"));
}

TEST_F(DamagedCheckpoint, NumbersBeyondF16) {
  Open("gptq_4bit_desc_act");
  EXPECT_THAT(ErrorWith(".scales", Begin(uint16_t{0x7bff})), HasSubstr("beyond the range of F16"));
}

TEST_F(DamagedCheckpoint, CompressedTensors) {
  Open("ct_4bit_asym_bf16");
  EXPECT_THAT(ErrorWith(".weight_scale"), HasSubstr(".weight_scale' is missing"));
  EXPECT_THAT(ErrorWith(".weight_shape"), HasSubstr(".weight_shape' is missing"));
  EXPECT_THAT(ErrorWith(".weight_shape", Begin(int64_t{33})), HasSubstr(".weight_shape' says [33, 96]"));
  EXPECT_THAT(ErrorWith(".weight_zero_point", [&](TensorInfo& t) { Halve(t); }),
              HasSubstr("has shape [2, 3]"));
  EXPECT_THAT(ErrorWith(".weight_scale", [&](TensorInfo& t) { Halve(t); }), HasSubstr("expected [32, 3]"));
  config()["config_groups"] = Json::object();
  EXPECT_THAT(ErrorWith(".none"), HasSubstr("does not say how"));
}

TEST_F(DamagedCheckpoint, WhatIsNotSupported) {
  Open("gptq_4bit_sym");
  const auto with = [&](const char* key, const Json& value) {
    const Json before = config();
    config()[key] = value;
    const std::string message = Error();
    config() = before;
    return message;
  };
  EXPECT_THAT(with("bits", 5), HasSubstr("\"bits\" is 5; supported are 2, 3, 4, 8"));
  EXPECT_THAT(with("bits", "4"), HasSubstr("not an integer"));
  EXPECT_THAT(with("group_size", 0), HasSubstr("\"group_size\" is 0"));
  EXPECT_THAT(with("checkpoint_format", "marlin"), HasSubstr("'marlin'"));
  EXPECT_THAT(with("is_marlin_format", true), HasSubstr("'marlin'"));
  EXPECT_THAT(with("quant_method", "hqq"), HasSubstr("quant_method 'hqq' is not supported"));
  config_["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}, {"version", "gemv"}};
  EXPECT_THAT(Error(), HasSubstr("'gemv'"));
  config_["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"format", "float-quantized"},
      {"config_groups", {{"group_0", {{"weights", {{"num_bits", 8}, {"type", "float"}}}}}}}};
  EXPECT_THAT(Error(), HasSubstr("'float-quantized'"));
  config_["quantization_config"] = Json::array();
  EXPECT_THAT(Error(), HasSubstr("not an object"));
}

// One byte of the file or the configuration changed: an error or other numbers, nothing worse.
TEST_F(DamagedCheckpoint, AnyByte) {
  for (const char* name : {"gptq_3bit_asym", "awq", "ct_4bit_g_idx", "ct_int_row"}) {
    for (const char* file : {"model.safetensors", "config.json"}) {
      using std::filesystem::copy_options;
      std::filesystem::copy(kGoldens + name, directory_,
                            copy_options::recursive | copy_options::overwrite_existing);
      ForEachCorruption(Path(file), *ReadFile(Path(file)), 100, [&] {
        auto directory = ReadHfDirectory(directory_);
        if (directory) static_cast<void>(UnpackMatrices(*directory));
      });
    }
  }
}

}  // namespace
}  // namespace thimble
