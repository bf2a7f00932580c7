// Rounding of weights with feedback in double precision: the reference of every tier.
#include <math.h>

#include "kernels/tiers.h"

namespace thimble::ref {
namespace {

double Nearest(const RoundGrid& grid, double t) {
  if (grid.n_values == 0) return nearbyint(fmin(fmax(t, grid.lowest), grid.highest));
  double point = grid.values[0];
  for (int k = 1; k < grid.n_values; ++k) {
    if (t > 0.5 * (static_cast<double>(grid.values[k - 1]) + grid.values[k])) point = grid.values[k];
  }
  return point;
}

double Feedback(int i, int row, const float* x, const float* e, const RoundFactor& f) {
  double t = x[i * kRoundRows + row];
  for (int j = 0; j < i; ++j) t += static_cast<double>(e[j * kRoundRows + row]) * f.feedback[i * f.ld + j];
  return t;
}

void RoundBlock(const RoundGrid* grid, int n, const float* x, const float* w, const RoundFactor* f,
                const float* scale, const float* min, float* points, float* errors, float* cost) {
  for (int row = 0; row < kRoundRows; ++row) {
    const double s = scale[row], m = min[row];
    double sum = 0;
    for (int i = 0; i < n; ++i) {
      const int at = i * kRoundRows + row;
      const double t = Feedback(i, row, x, errors, *f);
      const double point = Nearest(*grid, s != 0 ? (t - m) / s : 0.0);
      const double value = s * point + m, residual = f->diagonal[i] * (t - value);
      points[at] = static_cast<float>(point);
      errors[at] = static_cast<float>(w[at] - value);
      sum += residual * residual;
    }
    cost[row] = static_cast<float>(sum);
  }
}

void WhitenBlock(int n, const float* x, const float* w, const RoundFactor* f, float* y) {
  for (int row = 0; row < kRoundRows; ++row) {
    for (int i = 0; i < n; ++i) {
      y[i * kRoundRows + row] = static_cast<float>(f->diagonal[i] * Feedback(i, row, x, w, *f));
    }
  }
}

}  // namespace

void FillRound(KernelTable* table) {
  table->round_block = RoundBlock;
  table->whiten_block = WhitenBlock;
}

}  // namespace thimble::ref
