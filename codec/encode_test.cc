#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string_view>
#include <vector>

#include "base/half.h"
#include "codec/codec.h"
#include "codec/test_support.h"

namespace thimble {
namespace {

using enum WeightType;

// Sum of importance * (a - b)^2 over that of importance * a^2.
double RelativeError(const std::vector<float>& a, const std::vector<float>& b,
                     const std::vector<float>* importance = nullptr) {
  double error = 0, total = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double w = importance != nullptr ? (*importance)[i] : 1.0, x = a[i];
    error += w * (x - b[i]) * (x - b[i]);
    total += w * x * x;
  }
  return error / total;
}

class EncodeTest : public testing::TestWithParam<WeightType> {};

// What llama.cpp's encoders leave on 2M such weights, without an importance matrix, or with one of ones for
// IQ2 (whose smaller types it does not make without) (ggml_quantize_chunk of llama-cpp-python 0.3.36);
// tools/check_quant_quality.py compares on whole files.
TEST_P(EncodeTest, LeavesNoMoreErrorThanLlamaCpp) {
  const std::map<WeightType, double> kLlamaCpp = {
      {kQ4_0, 7.375e-3},    {kQ4_1, 6.100e-3},   {kQ5_0, 1.821e-3},   {kQ5_1, 1.432e-3},
      {kQ8_0, 2.865e-5},    {kQ2_K, 8.768e-2},   {kQ3_K, 2.277e-2},   {kQ4_K, 5.082e-3},
      {kQ5_K, 1.305e-3},    {kQ6_K, 3.157e-4},   {kIQ4_NL, 5.786e-3}, {kIQ4_XS, 5.890e-3},
      {kIQ2_XXS, 1.182e-1}, {kIQ2_XS, 8.973e-2}, {kIQ2_S, 6.191e-2},  {kIQ3_XXS, 4.549e-2},
      {kIQ3_S, 2.750e-2}};
  // No one else has these: what the search reached, which gives up some plain error for the largest weights.
  const std::map<WeightType, double> kOwn = {{kT2, 8.8e-2}, {kT3, 2.24e-2}, {kT4, 6.05e-3}, {kT5, 1.74e-3}};
  const std::vector<float> x = GaussianWeights(1 << 17, 3);
  const double error = RelativeError(x, RoundTrip(GetParam(), x));
  const auto& bars = IsNative(GetParam()) ? kOwn : kLlamaCpp;
  const auto bar = bars.find(GetParam());
  EXPECT_LE(error, bar != bars.end() ? bar->second : 0x1p-17) << Name(GetParam());
}

TEST_P(EncodeTest, ImportanceLowersTheWeightedError) {
  if (!Info(GetParam()).quantized) GTEST_SKIP() << "no scales to choose";
  const std::vector<float> x = GaussianWeights(1 << 14, 4);
  std::vector<float> importance(x.size());
  Random random(5);
  for (float& w : importance) w = static_cast<float>(std::exp(2 * random.Normal()));
  const double without = RelativeError(x, RoundTrip(GetParam(), x), &importance);
  const double with = RelativeError(x, RoundTrip(GetParam(), x, importance.data()), &importance);
  EXPECT_LT(with, 0.9 * without);
}

TEST_P(EncodeTest, UniformImportanceIsNone) {
  const std::vector<float> x = GaussianWeights(512, 6), importance(512, 1.0f);
  EXPECT_EQ(Encode(GetParam(), x, importance.data()), Encode(GetParam(), x));
}

TEST_P(EncodeTest, ZerosStayZero) {
  const std::vector<float> x(512, 0.0f);
  for (const float value : RoundTrip(GetParam(), x)) {
    if (GetParam() == kT2) {  // no ring of its points is all zeros: the least scale
      EXPECT_LT(std::abs(value), 0x1p-13f);
    } else {
      EXPECT_EQ(FloatBits(value), 0u);
    }
  }
}

TEST_P(EncodeTest, ValuesThatAreNotFiniteCountAsZero) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> x = GaussianWeights(512, 7);
  x[0] = x[300] = x[511] = 0;
  const std::vector<uint8_t> expected = Encode(GetParam(), x);
  x[0] = kInfinity;
  x[300] = -kInfinity;
  x[511] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Encode(GetParam(), x), expected);
}

TEST_P(EncodeTest, ConstantRowsKeepTheirValue) {
  // A ring's points follow from each other: few of its constant sequences are near a given one.
  const double limit = IsNative(GetParam()) ? 0.03 : 1e-4;
  for (const float value : {0.75f, -0.75f}) {
    std::vector<float> x(256, value);
    EXPECT_LT(RelativeError(x, RoundTrip(GetParam(), x)), limit) << value;
    x[40] *= 1.001f;
    EXPECT_LT(RelativeError(x, RoundTrip(GetParam(), x)), limit) << value;
  }
}

// Sums of exact numbers, so that the row itself does not depend on a processor's or a library's log and cos.
std::vector<float> BellShapedWeights(size_t n) {
  Random random(8);
  std::vector<float> x(n);
  for (float& value : x) {
    for (int i = 0; i < 6; ++i) value += static_cast<float>(random.Below(1 << 16)) - 32767.5f;
    value *= 0x1p-20f;
  }
  return x;
}

// FNV-1a.
uint64_t Hash(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

// What an AVX2 machine made; it changes with the search, and must not with the processor.
TEST_P(EncodeTest, GivesTheSameBytesOnEveryProcessor) {
  const std::map<WeightType, uint64_t> kHashes = {
      {kF32, 0xef032630aa2724fe},     {kF16, 0x25fc388e79e06601},    {kBF16, 0x661827734b7f67d5},
      {kQ8_0, 0xcb28dfdf3a89edff},    {kQ4_0, 0xf58fa54c9e931b9a},   {kQ4_1, 0x8972621e13771a30},
      {kQ5_0, 0x6e0a8ef135bbb965},    {kQ5_1, 0x864e796ec0f2e1c9},   {kQ2_K, 0xf7068de5d38c16c3},
      {kQ3_K, 0x15401351702d9825},    {kQ4_K, 0xab8ed84c632feeac},   {kQ5_K, 0x5dde879187c25f8f},
      {kQ6_K, 0xa66a3abd3dccf993},    {kIQ4_NL, 0x57dd58c4bc69a510}, {kIQ4_XS, 0x16dfb5aa3029ac8c},
      {kIQ2_XXS, 0x7d251cb79d4a8298}, {kIQ2_XS, 0xeca82c687f5f2cb1}, {kIQ2_S, 0xec32010ffe316422},
      {kIQ3_XXS, 0x3c7cefc25e70b936}, {kIQ3_S, 0x851a7605bf91cfac},  {kT2, 0x4383792d507fcbf8},
      {kT3, 0x248d059c6e30de96},      {kT4, 0x90495e5fb81c6149},     {kT5, 0xf95091e7b31c2e7d}};
  const std::vector<float> x = BellShapedWeights(1 << 14);
  EXPECT_EQ(Hash(Encode(GetParam(), x)), kHashes.at(GetParam())) << Name(GetParam());
}

// A row with structure that a search may stumble over: runs of zeros, one giant, one sign, extremes of range.
std::vector<float> OddRow() {
  const uint64_t seed = *rc::gen::arbitrary<uint64_t>();
  const int exponent = *rc::gen::inRange(-149, 128);
  const int zeros = *rc::gen::inRange(0, 101), giants = *rc::gen::inRange(0, 4);
  const bool positive = *rc::gen::arbitrary<bool>();
  Random random(seed);
  std::vector<float> x(512);
  for (float& value : x) {
    const double magnitude = random.Normal() * std::ldexp(0.3, exponent);
    value = static_cast<float>(static_cast<int>(random.Below(100)) < zeros ? 0.0 : magnitude);
    if (positive) value = std::abs(value);
  }
  for (int i = 0; i < giants; ++i) x[random.Below(512)] *= static_cast<float>(1 + random.Below(1000));
  return x;
}

RC_GTEST_PROP(EncodeProperties, DecodesToFiniteWeights, ()) {
  const std::vector<float> x = OddRow();
  std::vector<float> importance = OddRow();
  for (const WeightType type : DecodableTypes()) {
    for (const float value : RoundTrip(type, x)) RC_ASSERT(std::isfinite(value));
    for (const float value : RoundTrip(type, x, importance.data())) RC_ASSERT(std::isfinite(value));
  }
}

// Never worse than zeros, up to the rounding of the largest weight, for what F16 scales can hold at all. IQ2
// has no magnitude below 8 / 43 of the largest: 31 zeros beside one giant come to as much as the giant. In
// T2, which has two new bits a weight, a giant's neighbours are not free either.
RC_GTEST_PROP(EncodeProperties, StaysNearTheRow, ()) {
  std::vector<float> x = OddRow();
  float largest = 0;
  for (const float value : x) largest = std::max(largest, std::abs(value));
  RC_PRE(largest > 0.0f && std::isfinite(largest));
  for (float& value : x) value /= largest;
  for (const WeightType type : DecodableTypes()) {
    RC_LOG() << Name(type) << " " << RelativeError(x, RoundTrip(type, x)) << " ";
    RC_ASSERT(RelativeError(x, RoundTrip(type, x)) <
              (type == kT2 || std::string_view(Name(type)).starts_with("IQ2") ? 1.5 : 0.3));
  }
}

RC_GTEST_PROP(EncodeProperties, EncodingAgainLosesLittle, ()) {
  const std::vector<float> x = GaussianWeights(512, *rc::gen::arbitrary<uint64_t>());
  for (const WeightType type : DecodableTypes()) {
    const std::vector<float> once = RoundTrip(type, x), twice = RoundTrip(type, once);
    RC_LOG() << Name(type) << " " << RelativeError(x, once) << " " << RelativeError(x, twice) << " ";
    RC_ASSERT(RelativeError(x, twice) <= (IsNative(type) ? 1.5 : 1.25) * RelativeError(x, once));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, EncodeTest, testing::ValuesIn(DecodableTypes()), TypeName);

}  // namespace
}  // namespace thimble
