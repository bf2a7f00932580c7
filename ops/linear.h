// y = x W^T + b with a weight of any type, and what an adapter adds to it.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "codec/types.h"
#include "ops/linear_input.h"
#include "ops/packed_weight.h"

namespace thimble {

// A weight matrix [n_out, n_in]; rows are contiguous. Frozen, and not owned, as it stands in the model file;
// or trained (TrainedWeight).
struct Weight {
  std::string name;
  WeightType type = WeightType::kF32;
  int64_t n_out = 0, n_in = 0;
  const uint8_t* data = nullptr;
  const float* bias = nullptr;           // [n_out], or null
  std::shared_ptr<PackedWeight> packed;  // what integer products read; null: the weight is always decoded
  Tensor trained, trained_bias;          // the numbers at `data` and `bias`, where they have gradients

  const uint8_t* row(int64_t i) const { return data + static_cast<size_t>(i) * RowBytes(type, n_in); }
};

// A weight and, if set, a bias [1, n_out] in F32, which Backward gives gradients too.
Weight TrainedWeight(std::string name, const Tensor& weight, const Tensor& bias = {});

// [m, n_in] -> [m, n_out]. Backward of a frozen weight, which gives dx only, decodes it a tile at a time, or
// with Context::integer_gradients rounds dy to int8, as the activations are.
Tensor Linear(const Context& ctx, const Weight& weight, const Tensor& x);
// Bytes that Context::integer_gradients takes for the weight, and more at once for the gradients of n_rows; 0
// where they are not integer products.
struct IntegerGradientUse {
  int64_t packed = 0, at_once = 0;
};
IntegerGradientUse IntegerGradientUseOf(const Context& ctx, const Weight& weight, int64_t n_rows);

// y += scale * dropout(x) A^T B^T, in place. x [m, n_in], a [r, n_in], b [n_out, r], y [m, n_out].
// dropout in [0, 1): inverted dropout on x, the mask drawn from `seed` (LoRA, Hu et al. 2021, section 4.1).
struct LoraTerm {
  Tensor a, b;
  float scale = 1;
  float dropout = 0;
  uint64_t seed = 0;
};
void AddLora(const Context& ctx, const Tensor& x, const LoraTerm& lora, const Tensor& y);

// Several weights with the same input, in one pass over the threads: y[i] = weights[i] x, and where `loras`
// is not empty, what loras[i] adds to it, if set.
void Linear(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& x,
            std::span<Tensor> y, std::span<const LoraTerm> loras = {});

// What a layer multiplies next: activation(weights[0] x) * (weights[1] x), the latter two with their loras.
LinearInput GatedLinear(const Context& ctx, std::span<const Weight* const> weights, const LinearInput& x,
                        Activation activation, std::span<const LoraTerm> loras = {});

}  // namespace thimble
