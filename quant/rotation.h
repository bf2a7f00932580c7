// Rotations folded into a model's weights: the model computes the same function, but no weight or activation
// stands out of the others, which costs less where they are rounded (Ashkboos et al. 2024, "QuaRot"; Liu et
// al. 2024, "SpinQuant", section 3.1: R1 and R2).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "quant/export_plan.h"

namespace thimble {

// A random orthogonal matrix Q [n, n] that costs n log n to multiply by: signs, a Hadamard matrix of the
// largest power of two in n, and a dense one of what is left of n.
class Rotation {
 public:
  Rotation(int64_t n, uint64_t seed);

  int64_t n() const { return n_; }
  void Apply(float* x) const;  // x [n] becomes x Q

 private:
  int64_t n_, even_, odd_;     // n = even * odd
  std::vector<float> signs_;   // [n], over sqrt(even)
  std::vector<double> dense_;  // [odd, odd], or empty where odd is 1
};

// What can be rotated. The residual stream: of models whose output is not the embedding (the last norm's
// weights go into the output alone) and that have no norms behind their layers. Values: always.
struct Rotations {
  bool residual = false;
  std::string why_not;  // the residual stream is left alone
};
Rotations RotationsOf(const ModelConfig& config);

// The plan's file with its residual stream rotated, if it can be, and the values of each layer's heads.
// Norms' weights before rotated inputs become 1. Streams: the largest tensor in F32 is held at once.
Status WriteRotatedGguf(const ExportPlan& plan, const ModelConfig& config, uint64_t seed,
                        const std::string& path, ThreadPool& pool, const ProgressFn& progress);

}  // namespace thimble
