// Shared by the codec tests: every decodable type as a test parameter, and rows of weights.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "codec/codec.h"

namespace thimble {

inline std::vector<WeightType> DecodableTypes() {
  std::vector<WeightType> types;
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (info.decodable) types.push_back(info.type);
  }
  return types;
}

inline std::string TypeName(const testing::TestParamInfo<WeightType>& info) {
  return Name(info.param);
}

inline std::vector<float> GaussianWeights(size_t n, uint64_t seed, double scale = 0.02) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& value : x) value = static_cast<float>(scale * random.Normal());
  return x;
}

// x.size() must be a multiple of 256.
inline std::vector<uint8_t> Encode(WeightType type, const std::vector<float>& x,
                                   const float* importance = nullptr) {
  std::vector<uint8_t> row(RowBytes(type, static_cast<int64_t>(x.size())));
  EncodeRow(type, x.data(), row.data(), static_cast<int64_t>(x.size()), importance);
  return row;
}

inline std::vector<float> Decode(WeightType type, const std::vector<uint8_t>& row, size_t n) {
  std::vector<float> x(n);
  DecodeRow(type, row.data(), x.data(), static_cast<int64_t>(n));
  return x;
}

inline std::vector<float> RoundTrip(WeightType type, const std::vector<float>& x,
                                    const float* importance = nullptr) {
  return Decode(type, Encode(type, x, importance), x.size());
}

}  // namespace thimble
