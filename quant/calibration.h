// What a model's layers see on calibration text, and how much its predictions depend on them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "model/model.h"
#include "quant/hessian.h"

namespace thimble {

// Of one matrix [n_out, n_in]: with an error E of the weights, the model's predictions move by
// KL(before || after) ~ sum over rows r of row_weights[r] * e_r H e_r^T / 2, in nats per token of the text,
// as far as the matrix is concerned alone.
//
// H is the mean over tokens of |g|^2 / n_out * x^T x, with g the gradient of the layer's output under labels
// drawn from the model's own predictions: the Fisher information, taken as a product of inputs' and outputs'
// parts (Martens & Grosse 2015; van der Ouderaa et al. 2024).
// One drawn label makes |g|^2 noisy; with |g| instead the rounding that follows is measurably better.
// row_weights have a mean of 1.
struct LayerStatistics {
  Hessian hessian{0};
  std::vector<float> row_weights;   // [n_out]
  std::vector<float> mean_squares;  // [n_in]: of the input, every token alike; 0 for an embedding
};

// An embedding's rows are read one at a time, so its H is the mean of g g^T, with g the gradient of a token's
// row, and its row_weights are how often each token is read.
struct Calibration {
  int64_t n_tokens = 0;
  std::vector<std::array<LayerStatistics, kNumLinearSlots>> layers;  // of all; empty outside the pass
  LayerStatistics output;     // where it is tied to the embedding: of both its uses
  LayerStatistics embedding;  // empty where they are tied
};

// What one pass over the text collects: Hessians of all layers at once may be more than memory holds.
struct CalibrationPass {
  int64_t begin = 0, end = INT64_MAX;  // layers
  bool output = true;                  // and the embedding
};
// Passes that hold at most max_bytes of Hessians each, layers in order, the output last. Error
// kInvalidArgument if one layer alone takes more.
Result<std::vector<CalibrationPass>> PlanPasses(const Model& model, uint64_t max_bytes);

// Windows of tokens, each a text of its own; as many as there is time for, where max_seconds is not 0 (of one
// rank only). What
// is collected does not depend on how it is divided into passes, nor, but for the order of sums, on how many
// ranks share the windows. Error: kCancelled.
Result<Calibration> Calibrate(const Context& ctx, const Model& model,
                              std::span<const std::vector<int32_t>> windows, double max_seconds,
                              const ProgressFn& progress, const CalibrationPass& pass = {});

}  // namespace thimble
