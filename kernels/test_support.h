// Shared by the kernel tests: every tier as a test parameter, and reproducible random numbers.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace thimble {

inline std::vector<const KernelTable*> AllTiers() {
  std::vector<const KernelTable*> tiers(8);
  tiers.resize(static_cast<size_t>(SupportedKernels(tiers.data(), static_cast<int>(tiers.size()))));
  return tiers;
}

class KernelsTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& kernels_ = *GetParam();
};

inline std::string TierName(const testing::TestParamInfo<const KernelTable*>& info) {
  return info.param->name;
}

inline std::vector<float> RandomFloats(size_t count, uint32_t seed, float scale = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace thimble
