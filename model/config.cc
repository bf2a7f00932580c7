#include "model/config.h"

#include <algorithm>
#include <cmath>

namespace thimble {

std::vector<float> Llama3RopeFactors(double theta, int64_t head_dim, double factor, double low_freq_factor,
                                     double high_freq_factor, int64_t original_context) {
  constexpr double kTwoPi = 6.283185307179586;
  std::vector<float> factors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double wavelength =
        kTwoPi * std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double context = static_cast<double>(original_context);
    double divisor = 1;
    if (wavelength > context / low_freq_factor) {
      divisor = factor;
    } else if (wavelength >= context / high_freq_factor) {
      const double smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    factors.push_back(static_cast<float>(divisor));
  }
  return factors;
}

float ModelConfig::embedding_scale() const {
  return arch->scale_embedding ? std::sqrt(static_cast<float>(d_model)) : 1.0f;
}

bool ModelConfig::has_local_layers() const {
  return std::find(is_local.begin(), is_local.end(), true) != is_local.end();
}

std::vector<double> ModelConfig::RopeFrequencies(bool local) const {
  const bool own_base = local && rope_theta_local > 0;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    double f = std::pow(own_base ? rope_theta_local : rope_theta,
                        -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (!own_base) f /= rope_linear_factor * (rope_factors.empty() ? 1.0 : rope_factors[i]);
    frequencies.push_back(f);
  }
  return frequencies;
}

}  // namespace thimble
