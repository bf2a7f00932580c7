// Scales of the channels that go into matrices: columns that meet large activations are multiplied before
// rounding, and what makes the activations is divided by as much (Lin et al. 2023, "AWQ", section 3.2).
//
// Scales are powers of two, so that a scaled model which nothing rounds computes the same floats, to the bit.
#pragma once

#include <span>
#include <vector>

#include "model/config.h"
#include "quant/export_plan.h"

namespace thimble {

// Matrices with one input, and what makes it, each an index into the plan's tensors. Nothing else reads what
// `makers` make.
struct ChannelGroup {
  std::vector<size_t> matrices;
  std::vector<size_t> makers;     // rows of a matrix and elements of its bias, or elements of a norm's weight
  std::vector<int64_t> channels;  // [n_in]: by the matrices' column, the channel of the makers
  int64_t n_channels = 0;
};

// Queries, keys and values behind the norm; gate and up behind theirs; down behind up's rows; the attention's
// output behind the values' rows, where query heads that share a value head share its channels. Without the
// groups of which nothing is to be quantized, or where a tensor that is quantized already stays as it is.
std::vector<ChannelGroup> ChannelGroups(const ExportPlan& plan, const ModelConfig& config);

// A scale for each channel: its root mean square activation to the power of `alpha`, over the geometric mean
// of all, to the next power of two. mean_squares [n_in]: of the matrices' input.
std::vector<float> ChannelScales(const ChannelGroup& group, std::span<const float> mean_squares,
                                 double alpha);

// By each column of the matrices.
std::vector<float> ColumnScales(const ChannelGroup& group, std::span<const float> channel_scales);
void ApplyScales(const ChannelGroup& group, std::span<const float> channel_scales, ExportPlan& plan);

}  // namespace thimble
