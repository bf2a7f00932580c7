#include "quant/channel_scaling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <unordered_map>

namespace thimble {
namespace {

constexpr int kMostDoublings = 8;  // a channel that is never active would get any scale

struct GroupRow {
  std::vector<Slot> matrices;
  std::vector<Slot> makers;
};
// As model/forward.cc has it, for every architecture.
const GroupRow kGroups[] = {
    {{Slot::kQ, Slot::kK, Slot::kV}, {Slot::kAttnNorm}},
    {{Slot::kGate, Slot::kUp}, {Slot::kFfnNorm}},
    {{Slot::kDown}, {Slot::kUp, Slot::kUpBias}},
    {{Slot::kO}, {Slot::kV, Slot::kVBias}},
};

bool StaysQuantized(const ExportTensor& t) {
  return t.type == t.source.type && Info(t.type).quantized;
}

void Multiply(std::span<const float> by, bool inverse, std::vector<float>& scales) {
  if (scales.empty()) scales.assign(by.size(), 1.0f);
  for (size_t i = 0; i < by.size(); ++i) scales[i] *= inverse ? 1 / by[i] : by[i];
}

}  // namespace

std::vector<ChannelGroup> ChannelGroups(const ExportPlan& plan, const ModelConfig& config) {
  std::unordered_map<std::string, size_t> places;
  for (size_t i = 0; i < plan.tensors.size(); ++i) places[plan.tensors[i].name] = i;
  std::vector<ChannelGroup> groups;
  for (int64_t layer = 0; layer < config.n_layers; ++layer) {
    const auto find = [&](const std::vector<Slot>& slots) {
      std::vector<size_t> found;
      for (const Slot slot : slots) {
        const TensorRow* row = FindRow(*config.arch, slot);
        const auto place = row != nullptr ? places.find(LayerName(row->gguf, layer)) : places.end();
        if (place != places.end()) found.push_back(place->second);
      }
      return found;
    };
    for (const GroupRow& row : kGroups) {
      ChannelGroup group{.matrices = find(row.matrices), .makers = find(row.makers)};
      const auto is = [&](const std::vector<size_t>& tensors, const auto& what) {
        return std::ranges::any_of(tensors, [&](size_t i) { return what(plan.tensors[i]); });
      };
      const auto quantized = [](const ExportTensor& t) { return Info(t.type).quantized; };
      if (group.matrices.size() != row.matrices.size() || group.makers.empty() ||
          !is(group.matrices, quantized) || is(group.matrices, StaysQuantized) ||
          is(group.makers, StaysQuantized)) {
        continue;
      }
      group.channels.resize(static_cast<size_t>(plan.tensors[group.matrices[0]].source.row_size()));
      std::iota(group.channels.begin(), group.channels.end(), int64_t{0});
      if (row.matrices[0] == Slot::kO) {
        const int64_t sharing = config.n_heads / config.n_kv_heads, dim = config.head_dim;
        for (int64_t& c : group.channels) c = c / dim / sharing * dim + c % dim;
      }
      group.n_channels = group.channels.back() + 1;
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

std::vector<float> ChannelScales(const ChannelGroup& group, std::span<const float> mean_squares,
                                 double alpha) {
  const size_t n = static_cast<size_t>(group.n_channels);
  std::vector<double> sums(n), logarithms(n);
  for (size_t i = 0; i < group.channels.size(); ++i) {
    sums[static_cast<size_t>(group.channels[i])] += mean_squares[i];
  }
  const double largest = *std::ranges::max_element(sums);
  double mean = 0;
  for (size_t i = 0; i < n; ++i) {
    logarithms[i] = largest > 0 ? 0.5 * alpha * std::log2(std::max(sums[i], 1e-12 * largest)) : 0;
    mean += logarithms[i] / static_cast<double>(n);
  }
  std::vector<float> scales(n);
  for (size_t i = 0; i < n; ++i) {
    const int doublings = static_cast<int>(std::nearbyint(logarithms[i] - mean));
    scales[i] = std::ldexp(1.0f, std::clamp(doublings, -kMostDoublings, kMostDoublings));
  }
  return scales;
}

std::vector<float> ColumnScales(const ChannelGroup& group, std::span<const float> channel_scales) {
  std::vector<float> scales;
  scales.reserve(group.channels.size());
  for (const int64_t channel : group.channels) scales.push_back(channel_scales[static_cast<size_t>(channel)]);
  return scales;
}

void ApplyScales(const ChannelGroup& group, std::span<const float> channel_scales, ExportPlan& plan) {
  const std::vector<float> columns = ColumnScales(group, channel_scales);
  for (const size_t i : group.matrices) Multiply(columns, false, plan.tensors[i].column_scales);
  for (const size_t i : group.makers) {
    ExportTensor& t = plan.tensors[i];
    const bool vector = t.shape().size() == 1;
    Multiply(channel_scales, true, vector ? t.column_scales : t.row_scales);
    if (vector) t.type = t.wanted = WeightType::kF32;  // which holds every scaled value
  }
}

}  // namespace thimble
