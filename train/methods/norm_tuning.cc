// Norm tuning (Qi et al. 2022; PEFT's LN_TUNING): the weights of all norms, from the model's own.
#include <algorithm>

#include "train/methods/methods.h"

namespace thimble {
namespace {

class NormTuning : public Method {
 public:
  using Method::Method;

  Status Initialize(const Context& /*ctx*/, uint64_t /*seed*/) override {
    RETURN_IF_ERROR(ChooseTargets({}));
    adapter_.norms.resize(model_.layers().size());
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (int i = 0; i < kNumNormSlots; ++i) {
        const Slot slot = NormSlot(i);
        const auto l = static_cast<size_t>(layer);
        Add(layer, slot, model_.layers()[l].norm(slot), adapter_.norms[l][static_cast<size_t>(i)]);
      }
    }
    Add(0, Slot::kOutputNorm, model_.output_norm(), adapter_.output_norm);
    return {};
  }

 protected:
  Json Config() const override { return {{"peft_type", "LN_TUNING"}, {"target_modules", names_}}; }

 private:
  void Add(int64_t layer, Slot slot, const Tensor& original, Tensor& own) {
    if (!original) return;
    own = Tensor::Empty(1, original.size());
    std::copy_n(original.data(), original.size(), own.data());
    const std::string name = ModuleName(layer, slot);
    AddParameter({.name = name + ".ln_tuning_layers.weight",
                  .shape = {original.size()},
                  .value = own,
                  .offset = HfNormOffset(*model_.config().arch, slot)});
    const std::string short_name = name.substr(name.rfind('.') + 1);
    if (std::ranges::count(names_, short_name) == 0) names_.push_back(short_name);
  }

  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Method> MakeNormTuning(const Model& model, const PeftOptions& options) {
  return std::make_unique<NormTuning>(model, options);
}

}  // namespace thimble
