#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace thimble {
namespace {

class AdamW : public Optimizer {
 public:
  AdamW(std::vector<Tensor> parameters, std::vector<double> rates, const OptimizerOptions& options)
      : Optimizer(parameters, std::move(rates), options) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      m_.push_back(AddState("m." + std::to_string(i), parameters[i].rows(), parameters[i].cols()));
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      v_.push_back(AddState("v." + std::to_string(i), parameters[i].rows(), parameters[i].cols()));
    }
  }

 protected:
  void StepOne(size_t t, const Tensor& parameter, const float* g, double learning_rate) override {
    const auto n_steps = static_cast<double>(Optimizer::n_steps());
    const double correction1 = 1 - std::pow(options_.beta1, n_steps);
    const double correction2 = 1 - std::pow(options_.beta2, n_steps);
    const float beta1 = static_cast<float>(options_.beta1), beta2 = static_cast<float>(options_.beta2);
    const float inv_sqrt2 = static_cast<float>(1 / std::sqrt(correction2)),
                eps = static_cast<float>(options_.eps);
    const float step = static_cast<float>(learning_rate / correction1);
    const float decay = static_cast<float>(1 - learning_rate * options_.weight_decay);
    float *p = parameter.data(), *m = m_[t].data(), *v = v_[t].data();
    for (int64_t i = 0; i < parameter.size(); ++i) {
      m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
      p[i] = p[i] * decay - step * m[i] / (std::sqrt(v[i]) * inv_sqrt2 + eps);
    }
  }

 private:
  std::vector<Tensor> m_, v_;
};

double MeanSquare(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum / static_cast<double>(n);
}

// torch's defaults: beta2_decay -0.8, eps (machine's, 1e-3), d 1. A vector, of one row or column, is not
// factored.
class Adafactor : public Optimizer {
 public:
  Adafactor(std::vector<Tensor> parameters, std::vector<double> rates, const OptimizerOptions& options)
      : Optimizer(parameters, std::move(rates), options) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      const int64_t rows = parameters[i].rows(), cols = parameters[i].cols();
      const bool factored = rows > 1 && cols > 1;
      rows_.push_back(AddState("row." + std::to_string(i), 1, factored ? rows : 1));
      cols_.push_back(AddState("col." + std::to_string(i), 1, factored ? cols : rows * cols));
    }
  }

 protected:
  void StepOne(size_t t, const Tensor& parameter, const float* g, double learning_rate) override {
    const auto n_steps = static_cast<double>(Optimizer::n_steps());
    const double share = std::pow(n_steps, -0.8);  // of the new gradient in the mean of squares
    const double root_mean = std::sqrt(MeanSquare(parameter.data(), parameter.size()));
    const double rate = std::max(1e-3, root_mean) * std::min(learning_rate, 1 / std::sqrt(n_steps));
    std::vector<float> update(static_cast<size_t>(parameter.size()));
    const bool factored = parameter.rows() > 1 && parameter.cols() > 1;
    factored ? Factored(t, parameter, g, share, update.data()) : Whole(t, parameter, g, share, update.data());
    const double clip = std::max(1.0, std::sqrt(MeanSquare(update.data(), parameter.size())));
    const auto step = static_cast<float>(rate / clip);
    const auto decay = static_cast<float>(1 - learning_rate * options_.weight_decay);
    float* const p = parameter.data();
    for (int64_t i = 0; i < parameter.size(); ++i)
      p[i] = p[i] * decay - step * update[static_cast<size_t>(i)];
  }

 private:
  static constexpr float kEps = std::numeric_limits<float>::epsilon();

  static float Blend(float old, double now, double share) {
    return static_cast<float>(old + share * (now - old));
  }
  static float Divided(float gradient, float variance) {
    return gradient / std::sqrt(std::max(variance, kEps * kEps));
  }

  void Whole(size_t t, const Tensor& parameter, const float* g, double share, float* update) {
    float* const v = cols_[t].data();
    for (int64_t i = 0; i < parameter.size(); ++i) {
      v[i] = Blend(v[i], static_cast<double>(g[i]) * g[i], share);
      update[i] = Divided(g[i], v[i]);
    }
  }

  // The variance of element (i, j) is row[i] col[j] / mean(row).
  void Factored(size_t t, const Tensor& parameter, const float* g, double share, float* update) {
    const int64_t rows = parameter.rows(), cols = parameter.cols();
    float *const row = rows_[t].data(), *const col = cols_[t].data();
    std::vector<double> col_sums(static_cast<size_t>(cols));
    double mean = 0;
    for (int64_t i = 0; i < rows; ++i) {
      row[i] = Blend(row[i], MeanSquare(g + i * cols, cols), share);
      mean += row[i] / static_cast<double>(rows);
      for (int64_t j = 0; j < cols; ++j) {
        col_sums[static_cast<size_t>(j)] += static_cast<double>(g[i * cols + j]) * g[i * cols + j];
      }
    }
    for (int64_t j = 0; j < cols; ++j) {
      col[j] = Blend(col[j], col_sums[static_cast<size_t>(j)] / static_cast<double>(rows), share);
    }
    const float inverse = 1 / std::max(static_cast<float>(mean), kEps);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        update[i * cols + j] = Divided(g[i * cols + j], row[i] * col[j] * inverse);
      }
    }
  }

  std::vector<Tensor> rows_, cols_;
};

}  // namespace

Optimizer::Optimizer(std::vector<Tensor> parameters, std::vector<double> rates,
                     const OptimizerOptions& options)
    : options_(options), parameters_(std::move(parameters)), rates_(std::move(rates)) {
  CHECK(rates_.size() == parameters_.size());
  for (const Tensor& p : parameters_) p.set_requires_grad(true);
}

Tensor Optimizer::AddState(const std::string& name, int64_t rows, int64_t cols) {
  return state_.emplace_back(State{name, Tensor::Zeros(rows, cols)}).value;
}

double Optimizer::GradNorm(ThreadPool& pool) const {
  std::vector<double> sums(parameters_.size());
  pool.ParallelFor(std::ssize(sums), 1, [&](int64_t begin, int64_t, int) {
    const Tensor& p = parameters_[static_cast<size_t>(begin)];
    sums[static_cast<size_t>(begin)] = MeanSquare(p.grad(), p.size()) * static_cast<double>(p.size());
  });
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

void Optimizer::Step(ThreadPool& pool, double learning_rate, double gradient_scale) {
  ++n_steps_;
  const auto scale = static_cast<float>(gradient_scale);
  pool.ParallelFor(std::ssize(parameters_), 1, [&](int64_t begin, int64_t, int) {
    const auto t = static_cast<size_t>(begin);
    float* const g = parameters_[t].grad();
    for (int64_t i = 0; i < parameters_[t].size() && scale != 1; ++i) g[i] *= scale;
    StepOne(t, parameters_[t], g, learning_rate * rates_[t]);
    parameters_[t].ZeroGrad();
  });
}

std::unique_ptr<Optimizer> MakeOptimizer(std::vector<Tensor> parameters, std::vector<double> rates,
                                         const OptimizerOptions& options) {
  CHECK(options.name == "adamw" || options.name == "adafactor");
  if (options.name == "adafactor")
    return std::make_unique<Adafactor>(std::move(parameters), std::move(rates), options);
  return std::make_unique<AdamW>(std::move(parameters), std::move(rates), options);
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
