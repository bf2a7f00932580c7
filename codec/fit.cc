#include "codec/fit.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"

namespace thimble {

uint16_t ScaleToHalf(float x) {
  return FloatToHalf(std::clamp(x, -65504.0f, 65504.0f));
}

float FitScale(const float* x, const float*, int n, int low, int high) {
  float largest = 0;
  for (int i = 0; i < n; ++i) {
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  }
  return largest / static_cast<float>(-low >= high ? low : high);
}

ScaleMin FitScaleMin(const float* x, const float*, int n, int top, bool negative) {
  const auto [lowest, highest] = std::minmax_element(x, x + n);
  const float min = negative ? std::min(*lowest, 0.0f) : *lowest;
  return {std::max(*highest - min, 0.0f) / static_cast<float>(top), min};
}

void Round(const float* x, int n, float d, int low, int high, uint8_t* q) {
  for (int i = 0; i < n; ++i) {
    const float t = d != 0 ? x[i] / d : 0.0f;
    q[i] = static_cast<uint8_t>(std::lrint(std::clamp(t, static_cast<float>(low), static_cast<float>(high))) -
                                low);
  }
}

void RoundFrom(const float* x, int n, float d, float m, int top, uint8_t* q) {
  for (int i = 0; i < n; ++i) {
    const float t = d != 0 ? (x[i] - m) / d : 0.0f;
    q[i] = static_cast<uint8_t>(std::lrint(std::clamp(t, 0.0f, static_cast<float>(top))));
  }
}

}  // namespace thimble
