// LoRA (Hu et al. 2021) and rsLoRA (Kalajdzievski 2023), for the methods that build on them.
#pragma once

#include "formats/peft_adapter.h"
#include "train/methods/methods.h"

namespace thimble {

class Lora : public Method {
 public:
  using Method::Method;
  // A uniform in +-1/sqrt(n_in) (PEFT's Kaiming-uniform with a = sqrt(5)), B zero.
  Status Initialize(uint64_t seed) override;

 protected:
  Json Config() const override;
};

}  // namespace thimble
