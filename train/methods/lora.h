// LoRA (Hu et al. 2021) and rsLoRA (Kalajdzievski 2023), for the methods that build on them.
#pragma once

#include "formats/peft_adapter.h"
#include "train/methods/methods.h"

namespace thimble {

class Lora : public Method {
 public:
  using Method::Method;
  // A uniform in +-1/sqrt(n_in) (PEFT's Kaiming-uniform with a = sqrt(5)), B zero; or as options().start
  // says.
  Status Initialize(const Context& ctx, uint64_t seed) override;

 protected:
  Json Config() const override;
  // A low-rank part of each target's matrix(layer, slot), in the norm of options().norm if that is set, goes
  // into A and B, with the adapter's scale taken out.
  Status StartFrom(const Context& ctx, const std::function<Tensor(int64_t layer, Slot slot)>& matrix);
  // The frozen weight [n_out, n_in] in F32, in the bound model's row order.
  Tensor Decoded(int64_t layer, Slot slot) const;

 private:
  Status CheckUnquantized() const;
  Tensor Residual(int64_t layer, Slot slot) const;
};

}  // namespace thimble
