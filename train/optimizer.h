// AdamW and learning-rate schedules.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ops/tensor.h"

namespace thimble {

// AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW computes it.
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};

class AdamW {
 public:
  // rates: what each parameter's learning rate is multiplied by.
  AdamW(std::vector<Tensor> parameters, std::vector<double> rates, const AdamWOptions& options);
  // Uses and then zeroes the parameters' gradients, each first multiplied by `gradient_scale`.
  void Step(double learning_rate, double gradient_scale = 1);
  // Euclidean norm over all gradients.
  double GradNorm() const;

  // For checkpoints: first and second moments, in the parameters' order.
  const std::vector<Tensor>& parameters() const { return parameters_; }
  const std::vector<Tensor>& first_moments() const { return m_; }
  const std::vector<Tensor>& second_moments() const { return v_; }
  int64_t n_steps() const { return n_steps_; }
  void set_n_steps(int64_t n) { n_steps_ = n; }

 private:
  std::vector<Tensor> parameters_, m_, v_;
  std::vector<double> rates_;
  AdamWOptions options_;
  int64_t n_steps_ = 0;
};

enum class Schedule { kConstant, kLinear, kCosine };
std::optional<Schedule> ParseSchedule(std::string_view name);

// The factor on the learning rate at `step` (from 0) of `total`: a linear rise from 0 over `warmup` steps,
// then constant, or falling to 0 linearly or as half a cosine (Transformers, optimization.py).
double ScheduleFactor(Schedule schedule, int64_t step, int64_t warmup, int64_t total);

}  // namespace thimble
