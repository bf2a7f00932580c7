// The codes that codes_bench compares, and the training of their tables.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"

namespace thimble {

// Work on 16 rows at once, a row to a lane.
constexpr int kLanes = 16, kBlock = 64;
using Vec = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Bytes = uint8_t __attribute__((vector_size(16)));
struct alignas(64) Lanes {
  Vec v = {};
};

// Codes for numbers of variance 1.
class Code {
 public:
  virtual ~Code() = default;
  // y [n] = those of the code's values that come near x [n]: the sum of w (x - y)^2 of each lane is small.
  virtual void Round(int n, const Lanes* x, const Lanes* w, Lanes* y) const = 0;
};

// Each value by itself. Points of least error for a density on a fine grid (Lloyd 1982): of a Gaussian, or as
// measured.
constexpr int kBins = 1 << 14;
inline double BinCentre(size_t i) {  // over [-8, 8]
  return (static_cast<double>(i) + 0.5) * 16 / kBins - 8;
}
std::unique_ptr<Code> UniformCode(int bits);
std::unique_ptr<Code> LloydCode(int bits, const std::vector<double>& density);
std::vector<double> NormalDensity();
// QuIP#'s (Tseng et al. 2024, arXiv 2402.04396, sections 4.2 and C): E8P, E8P and E8 at one bit, twice E8P.
std::unique_ptr<Code> E8Code(int bits);
// Trellises with windows of so many bits; circular: the last windows go on at the beginning.
std::unique_ptr<Code> TrellisCode(int bits, int window, bool circular, std::vector<float> values);
// QTIP's computed values, "1mad" and "3inst" (Tseng et al. 2024, arXiv 2406.11235, section 3.1.1), and "exl3"
// (exllamav3, quant/codebook.cuh: 1MAD without the addition), brought to the variance of what they stand for.
std::vector<float> ComputedValues(const std::string& name, int bits, int window);

// Trained tables, in integers: a value is the sum of one chosen by the lower bits of a window and, if there
// are high bits, one chosen by those. "free": 6 bits; "add": 4 and 4; "add5", "add6": 5 and 5, 6 and 6.
struct Table {
  int low_bits, high_bits;
  std::vector<float> entries = std::vector<float>(low() + high());
  float unit = 1;

  size_t low() const { return size_t{1} << low_bits; }
  size_t high() const { return high_bits == 0 ? 0 : size_t{1} << high_bits; }
  int window() const { return low_bits + high_bits; }
  std::vector<float> Values() const;
  void ToIntegers();
};
std::optional<Table> EmptyTable(const std::string& name);

using Sampler = std::function<void(Random&, Lanes*)>;  // fills a block
void SampleNormal(Random& random, Lanes* x);
Table TrainTable(const Table& empty, int bits, const Sampler& sample, uint64_t seed);
// Mean squared error over so many blocks of 16 lanes.
double ErrorOf(const Table& table, int bits, const Sampler& sample, int blocks);

}  // namespace thimble
