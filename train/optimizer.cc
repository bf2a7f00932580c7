#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace thimble {

AdamW::AdamW(std::vector<Tensor> parameters, std::vector<double> rates, const AdamWOptions& options)
    : parameters_(std::move(parameters)), rates_(std::move(rates)), options_(options) {
  CHECK(rates_.size() == parameters_.size());
  for (const Tensor& p : parameters_) {
    p.set_requires_grad(true);
    m_.push_back(Tensor::Zeros(p.rows(), p.cols()));
    v_.push_back(Tensor::Zeros(p.rows(), p.cols()));
  }
}

double AdamW::GradNorm() const {
  double sum = 0;
  for (const Tensor& p : parameters_) {
    const float* g = p.grad();
    for (int64_t i = 0; i < p.size(); ++i) sum += static_cast<double>(g[i]) * g[i];
  }
  return std::sqrt(sum);
}

void AdamW::Step(double learning_rate, double gradient_scale) {
  ++n_steps_;
  const double correction1 = 1 - std::pow(options_.beta1, static_cast<double>(n_steps_));
  const double correction2 = 1 - std::pow(options_.beta2, static_cast<double>(n_steps_));
  const float beta1 = static_cast<float>(options_.beta1), beta2 = static_cast<float>(options_.beta2);
  const float inv_sqrt2 = static_cast<float>(1 / std::sqrt(correction2)),
              eps = static_cast<float>(options_.eps);
  const float scale = static_cast<float>(gradient_scale);
  for (size_t t = 0; t < parameters_.size(); ++t) {
    const double rate = learning_rate * rates_[t];
    const float step = static_cast<float>(rate / correction1);
    const float decay = static_cast<float>(1 - rate * options_.weight_decay);
    float *p = parameters_[t].data(), *g = parameters_[t].grad(), *m = m_[t].data(), *v = v_[t].data();
    for (int64_t i = 0; i < parameters_[t].size(); ++i) {
      const float gradient = g[i] * scale;
      m[i] = beta1 * m[i] + (1 - beta1) * gradient;
      v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
      p[i] = p[i] * decay - step * m[i] / (std::sqrt(v[i]) * inv_sqrt2 + eps);
    }
    parameters_[t].ZeroGrad();
  }
}

std::optional<Schedule> ParseSchedule(std::string_view name) {
  if (name == "constant") return Schedule::kConstant;
  if (name == "linear") return Schedule::kLinear;
  if (name == "cosine") return Schedule::kCosine;
  return std::nullopt;
}

double ScheduleFactor(Schedule schedule, int64_t step, int64_t warmup, int64_t total) {
  if (step < warmup) return static_cast<double>(step) / static_cast<double>(warmup);
  if (schedule == Schedule::kConstant) return 1;
  const auto length = static_cast<double>(std::max<int64_t>(1, total - warmup));
  if (schedule == Schedule::kLinear) return std::max(0.0, static_cast<double>(total - step) / length);
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / length);
  return 0.5 * (1 + std::cos(3.141592653589793 * progress));
}

}  // namespace thimble
