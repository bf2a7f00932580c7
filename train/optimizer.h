// Optimizers and learning-rate schedules.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "ops/tensor.h"

namespace thimble {

struct OptimizerOptions {
  std::string name = "adamw";  // or "adafactor"
  double weight_decay = 0;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // AdamW's
};

class Optimizer {
 public:
  // rates: what each parameter's learning rate is multiplied by.
  Optimizer(std::vector<Tensor> parameters, std::vector<double> rates, const OptimizerOptions& options);
  virtual ~Optimizer() = default;
  // Uses and then zeroes the parameters' gradients, each first multiplied by `gradient_scale`.
  void Step(ThreadPool& pool, double learning_rate, double gradient_scale = 1);
  // Euclidean norm over all gradients.
  double GradNorm(ThreadPool& pool) const;

  // For checkpoints: what is remembered between steps, by name.
  struct State {
    std::string name;
    Tensor value;
  };
  const std::vector<State>& state() const { return state_; }
  int64_t n_steps() const { return n_steps_; }
  void set_n_steps(int64_t n) { n_steps_ = n; }

 protected:
  // Of parameter i, with its gradient scaled, as the step that n_steps() counts. Several run at once.
  virtual void StepOne(size_t i, const Tensor& parameter, const float* gradient, double learning_rate) = 0;
  Tensor AddState(const std::string& name, int64_t rows, int64_t cols);  // zeros

  const OptimizerOptions options_;

 private:
  std::vector<Tensor> parameters_;
  std::vector<double> rates_;
  std::vector<State> state_;
  int64_t n_steps_ = 0;
};

// "adamw": Loshchilov and Hutter 2019, as torch.optim.AdamW computes it; two numbers a parameter.
// "adafactor": Shazeer and Stern 2018, as torch.optim.Adafactor computes it, which of a matrix remembers a
// number per row and per column.
std::unique_ptr<Optimizer> MakeOptimizer(std::vector<Tensor> parameters, std::vector<double> rates,
                                         const OptimizerOptions& options);

enum class Schedule { kConstant, kLinear, kCosine };
std::optional<Schedule> ParseSchedule(std::string_view name);

// The factor on the learning rate at `step` (from 0) of `total`: a linear rise from 0 over `warmup` steps,
// then constant, or falling to 0 linearly or as half a cosine (Transformers, optimization.py).
double ScheduleFactor(Schedule schedule, int64_t step, int64_t warmup, int64_t total);

}  // namespace thimble
