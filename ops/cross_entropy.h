// The losses of training, against labels or against another model's predictions.
#pragma once

#include <span>
#include <vector>

#include "ops/linear.h"

namespace thimble {

// Rows of logits that exist at once, where whole rows do: 128 x 49152 are 25 MB, and their gradients as much.
inline constexpr int64_t kLossRows = 128;

// The mean over labelled rows of -log softmax(x W^T)[label]; rows with label < 0 do not count. Projection,
// loss and gradient are computed a chunk of rows at a time or, under Compute::kBf16 with a frozen weight, a
// stretch of the vocabulary at a time, so that logits [T, vocab] never exist. Backward adds gradient_scale *
// d loss / dx to x.
struct LossResult {
  double mean_loss = 0;  // nats; 0 if no row is labelled
  int64_t n_labels = 0;
};
LossResult LinearCrossEntropy(const Context& ctx, const Weight& output, const Tensor& x,
                              std::span<const int32_t> labels, float gradient_scale = 1);
// Bytes that it takes at once for n_rows labelled rows, without x and its gradient.
int64_t CrossEntropyBytes(const Context& ctx, const Weight& output, int64_t n_rows);

// Likewise the mean over labelled rows of KL(teacher || student), where the teacher's logits are
// teacher_x teacher_output^T, of as many columns (Hinton et al. 2015, with temperature 1).
LossResult LinearKlDivergence(const Context& ctx, const Weight& output, const Tensor& x,
                              const Weight& teacher_output, const Tensor& teacher_x,
                              std::span<const int32_t> labels, float gradient_scale = 1);

// Likewise the mean over labelled rows of |x - teacher_x|^2 / |teacher_x|^2, of as many columns (Romero et
// al. 2015, "FitNets"). All-zero rows of teacher_x do not count.
LossResult HiddenStateError(const Context& ctx, const Tensor& x, const Tensor& teacher_x,
                            std::span<const int32_t> labels, float gradient_scale = 1);

}  // namespace thimble
