// Shared by the kernel tests: every tier as a test parameter, and reproducible random numbers.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "codec/types.h"
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

// A copy of some bytes that ends where the next page cannot be read, as at the end of a mapped file.
class BytesBeforeAGap {
 public:
  explicit BytesBeforeAGap(const std::vector<uint8_t>& bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t readable = (bytes.size() + page - 1) / page * page;
    size_ = readable + page;
    void* map = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(map, MAP_FAILED);
    map_ = static_cast<uint8_t*>(map);
    EXPECT_EQ(mprotect(map_ + readable, page, PROT_NONE), 0);
    data_ = map_ + readable - bytes.size();
    if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
  }
  ~BytesBeforeAGap() { munmap(map_, size_); }
  BytesBeforeAGap(const BytesBeforeAGap&) = delete;
  BytesBeforeAGap& operator=(const BytesBeforeAGap&) = delete;
  const uint8_t* data() const { return data_; }

 private:
  uint8_t *map_ = nullptr, *data_ = nullptr;
  size_t size_ = 0;
};

inline std::vector<uint8_t> RandomBytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// What a row's length is a multiple of.
inline int64_t RowStep(const WeightTypeInfo& info) {
  return info.half_bytes > 0 ? info.block_size / 2 : info.block_size;
}

// Rows packed for a tier, in memory that is aligned as it must be.
inline std::vector<ActivationBlock> Pack(const KernelTable& kernels, WeightType type, int64_t n_rows,
                                         int64_t k, const uint8_t* w, size_t stride) {
  const size_t group_bytes = kernels.packed_bytes[static_cast<size_t>(type)](k);
  const int64_t n_groups = (n_rows + kernels.packed_rows - 1) / kernels.packed_rows;
  std::vector<ActivationBlock> packed(group_bytes * static_cast<size_t>(n_groups) / sizeof(ActivationBlock));
  uint8_t* group = reinterpret_cast<uint8_t*>(packed.data());
  for (int64_t j = 0; j < n_rows; j += kernels.packed_rows, group += group_bytes) {
    const int64_t rows = std::min<int64_t>(kernels.packed_rows, n_rows - j);
    kernels.pack_rows[static_cast<size_t>(type)](rows, k, w + static_cast<size_t>(j) * stride, stride, group);
  }
  return packed;
}

}  // namespace thimble
