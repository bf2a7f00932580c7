#pragma once

#include <span>
#include <vector>

#include "ops/linear.h"

namespace thimble {

// The mean over labelled rows of -log softmax(x W^T)[label]; rows with label < 0 do not count. Projection,
// loss and gradient are computed a chunk of rows at a time, so that logits [T, vocab] never exist. Backward
// adds gradient_scale * d loss / dx to x.
struct CrossEntropyResult {
  double mean_loss = 0;  // nats; 0 if no row is labelled
  int64_t n_labels = 0;
};
CrossEntropyResult LinearCrossEntropy(const Context& ctx, const Weight& output, const Tensor& x,
                                      std::span<const int32_t> labels, float gradient_scale = 1);

}  // namespace thimble
