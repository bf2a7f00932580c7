// Shared by the tests of the operations: an operation in F32 against a reference in double precision that the
// test computes by itself, values and gradients.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "base/random.h"
#include "kernels/test_support.h"
#include "ops/context.h"
#include "ops/elementwise.h"

namespace thimble {

struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> values;

  Matrix() = default;
  Matrix(int64_t r, int64_t c) : rows(r), cols(c), values(static_cast<size_t>(r * c)) {}
  double& at(int64_t i, int64_t j) { return values[static_cast<size_t>(i * cols + j)]; }
  double at(int64_t i, int64_t j) const { return values[static_cast<size_t>(i * cols + j)]; }
};

inline Matrix ToMatrix(const Tensor& t) {
  Matrix m(t.rows(), t.cols());
  std::copy(t.data(), t.data() + t.size(), m.values.begin());
  return m;
}

inline Tensor RandomTensor(int64_t rows, int64_t cols, uint64_t seed, double scale = 1) {
  Random random(seed);
  Tensor t = Tensor::Empty(rows, cols);
  for (int64_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(random.Normal() * scale);
  return t;
}

// For operations that work in place: a copy through which the gradient flows on.
inline Tensor Copy(const Context& ctx, const Tensor& t) {
  Tensor copy = Tensor::Zeros(t.rows(), t.cols());
  AddInto(ctx, t, copy);
  return copy;
}

using Op = std::function<Tensor(const Context&, const std::vector<Tensor>&)>;
using Reference = std::function<Matrix(const std::vector<Matrix>&)>;

inline void ExpectNear(const float* actual, const Matrix& expected, double tolerance, const char* what) {
  double largest = 1, worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i])) << what << " [" << i << "]";
    largest = std::max(largest, std::fabs(expected.values[i]));
    if (const double error = std::fabs(actual[i] - expected.values[i]); error > worst) {
      worst = error;
      where = i;
    }
  }
  EXPECT_LE(worst, tolerance * largest)
      << what << " [" << where << "]: " << actual[where] << ", expected " << expected.values[where];
}

// d sum(weights * reference(inputs)) / d inputs[which], by central differences in double precision.
inline Matrix NumericGradient(const Reference& reference, std::vector<Matrix> inputs, size_t which,
                              const std::vector<double>& weights) {
  constexpr double kStep = 1e-5;
  const auto loss = [&] {
    const Matrix y = reference(inputs);
    double sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * y.values[i];
    return sum;
  };
  Matrix gradient(inputs[which].rows, inputs[which].cols);
  for (size_t i = 0; i < gradient.values.size(); ++i) {
    double& value = inputs[which].values[i];
    const double old = value;
    value = old + kStep;
    const double above = loss();
    value = old - kStep;
    const double below = loss();
    value = old;
    gradient.values[i] = (above - below) / (2 * kStep);
  }
  return gradient;
}

// Every test of an operation runs once per tier of kernels, and on one and on three threads.
class OpsTest : public KernelsTest {
 protected:
  Context ContextOn(ThreadPool& pool, Compute compute = Compute::kF32) const {
    return {.pool = pool, .kernels = kernels_, .compute = compute};
  }

  // The op's value and the gradient of each input that requires one, against the reference. Gradients must be
  // added to what is there. Results on one and on three threads must be equal to the bit.
  void CheckOp(const Op& op, const Reference& reference, const std::vector<Tensor>& inputs,
               double tolerance = 1e-5) {
    std::vector<Matrix> exact;
    for (const Tensor& t : inputs) exact.push_back(ToMatrix(t));
    const Matrix expected = reference(exact);
    std::vector<double> weights(expected.values.size());
    Random random(99);
    for (double& w : weights) w = static_cast<float>(random.Normal());

    std::vector<std::vector<float>> results[2];
    ThreadPool one(1), three(3);
    ThreadPool* const pools[] = {&one, &three};
    for (int p = 0; p < 2; ++p) {
      results[p] = RunOp(op, ContextOn(*pools[p]), inputs, weights);
    }
    for (size_t i = 0; i < results[0].size(); ++i) {
      EXPECT_EQ(results[0][i], results[1][i]) << "threads change result " << i;
    }
    ExpectNear(results[0][0].data(), expected, tolerance, "value");
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!inputs[i].requires_grad()) continue;
      const Matrix gradient = NumericGradient(reference, exact, i, weights);
      ExpectNear(results[0][i + 1].data(), gradient, tolerance,
                 ("gradient of input " + std::to_string(i)).c_str());
    }
  }

 private:
  // The value, then each input's gradient (empty where none is required).
  static std::vector<std::vector<float>> RunOp(const Op& op, Context ctx, const std::vector<Tensor>& inputs,
                                               const std::vector<double>& weights) {
    constexpr float kBefore = 0.5f;
    Tape tape;
    ctx.tape = &tape;
    for (const Tensor& t : inputs) {
      if (t.requires_grad()) std::fill(t.grad(), t.grad() + t.size(), kBefore);
    }
    const Tensor y = op(ctx, inputs);
    EXPECT_EQ(static_cast<size_t>(y.size()), weights.size());
    std::vector<std::vector<float>> results{{y.data(), y.data() + y.size()}};
    if (y.requires_grad()) {
      for (int64_t i = 0; i < y.size(); ++i)
        y.grad()[i] = static_cast<float>(weights[static_cast<size_t>(i)]);
    }
    tape.Backward();
    for (const Tensor& t : inputs) {
      auto& gradient = results.emplace_back();
      if (!t.requires_grad()) continue;
      for (int64_t i = 0; i < t.size(); ++i) gradient.push_back(t.grad()[i] - kBefore);
    }
    return results;
  }
};

}  // namespace thimble
