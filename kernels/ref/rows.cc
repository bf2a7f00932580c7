// Rows of F32 with libm in double precision: the reference of every tier.
#include <math.h>
#include <stddef.h>

#include "base/half.h"
#include "kernels/tiers.h"

namespace thimble::ref {
namespace {

float Dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(sum);
}

void Axpy(float alpha, const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += alpha * x[i];
}

void RmsNorm(const float* x, const float* weight, float eps, float* y, int64_t n) {
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double s = 1 / sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * s * weight[i]);
}

void RmsNormBackward(const float* x, const float* weight, float eps, const float* dy, float* dx, int64_t n) {
  double squares = 0, along = 0;
  for (int64_t i = 0; i < n; ++i) {
    squares += static_cast<double>(x[i]) * x[i];
    along += static_cast<double>(dy[i]) * weight[i] * x[i];
  }
  const double s = 1 / sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    const double g = static_cast<double>(dy[i]) * weight[i];
    dx[i] += static_cast<float>(s * (g - x[i] * s * s * along / static_cast<double>(n)));
  }
}

void RotatePair(float* a, float* b, const float* cos, const float* sin, float direction, int64_t at,
                int64_t partner) {
  const double x = *a, y = *b;
  *a = static_cast<float>(x * cos[at] + direction * y * sin[at]);
  *b = static_cast<float>(y * cos[partner] + direction * x * sin[partner]);
}

void RotateHalves(float* x, const float* cos, const float* sin, float direction, int64_t n) {
  for (int64_t i = 0; i < n / 2; ++i) RotatePair(x + i, x + i + n / 2, cos, sin, direction, i, i + n / 2);
}

void RotateNeighbours(float* x, const float* cos, const float* sin, float direction, int64_t n) {
  for (int64_t i = 0; i < n; i += 2) RotatePair(x + i, x + i + 1, cos, sin, direction, i, i + 1);
}

float Softmax(float* x, int64_t n) {
  float highest = -INFINITY;
  for (int64_t i = 0; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    // A row that is masked throughout becomes zeros.
    const double e = highest == -INFINITY ? 0.0 : exp(static_cast<double>(x[i]) - highest);
    x[i] = static_cast<float>(e);
    sum += e;
  }
  if (sum == 0) return -INFINITY;
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(x[i] / sum);
  return static_cast<float>(highest + log(sum));
}

struct ValueAndSlope {
  double value, slope;
};

ValueAndSlope Silu(double x) {
  const double s = 1 / (1 + exp(-x));
  return {x * s, s * (1 + x * (1 - s))};
}

ValueAndSlope Gelu(double x) {
  const double root_two_over_pi = 0.79788456080286535588;
  const double t = tanh(root_two_over_pi * (x + 0.044715 * x * x * x));
  const double dt = (1 - t * t) * root_two_over_pi * (1 + 3 * 0.044715 * x * x);
  return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * dt};
}

double Number(float x) {
  return x;
}
double Number(uint16_t bf16) {
  return Bf16ToFloat(bf16);
}

template <ValueAndSlope kActivation(double), typename T>
void GatedMul(const T* gate, const T* up, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = static_cast<float>(kActivation(Number(gate[i])).value * Number(up[i]));
}

template <ValueAndSlope kActivation(double), bool kAdd, typename T>
void GatedMulBackward(const T* gate, const T* up, const float* dy, float* dgate, float* dup, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const ValueAndSlope f = kActivation(Number(gate[i]));
    dgate[i] = (kAdd ? dgate[i] : 0) + static_cast<float>(f.slope * Number(up[i]) * dy[i]);
    dup[i] = (kAdd ? dup[i] : 0) + static_cast<float>(f.value * dy[i]);
  }
}

}  // namespace

void FillRows(KernelTable* table) {
  table->dot = Dot;
  table->axpy = Axpy;
  table->rms_norm = RmsNorm;
  table->rms_norm_backward = RmsNormBackward;
  table->rotate_halves = RotateHalves;
  table->rotate_neighbours = RotateNeighbours;
  table->softmax = Softmax;
  table->silu_mul = GatedMul<Silu, float>;
  table->gelu_mul = GatedMul<Gelu, float>;
  table->silu_mul_backward = GatedMulBackward<Silu, true, float>;
  table->gelu_mul_backward = GatedMulBackward<Gelu, true, float>;
  table->silu_mul_bf16 = GatedMul<Silu, uint16_t>;
  table->gelu_mul_bf16 = GatedMul<Gelu, uint16_t>;
  table->silu_mul_bf16_backward = GatedMulBackward<Silu, false, uint16_t>;
  table->gelu_mul_bf16_backward = GatedMulBackward<Gelu, false, uint16_t>;
}

}  // namespace thimble::ref
