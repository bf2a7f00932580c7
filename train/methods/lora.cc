#include "train/methods/lora.h"

#include <cmath>

#include "base/random.h"

namespace thimble {

Status Lora::Initialize(uint64_t seed) {
  RETURN_IF_ERROR(ChooseTargets(AllLinearSlots()));
  Random random(seed);
  const auto rank = static_cast<double>(options_.rank);
  for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
    for (const Slot slot : targets()) {
      const Weight& w = weight(layer, slot);
      if (options_.rank < 1 || options_.rank > std::min(w.n_in, w.n_out)) {
        return MakeError(ErrorCode::kInvalidArgument, "rank {} does not fit {} [{}, {}]", options_.rank,
                         w.name, w.n_out, w.n_in);
      }
      AdapterModule& m = module(layer, slot);
      m.a = Uniform(options_.rank, w.n_in, 1 / std::sqrt(static_cast<double>(w.n_in)), random);
      m.b = Tensor::Zeros(w.n_out, options_.rank);
      m.scale = static_cast<float>(options_.alpha / (options_.rslora ? std::sqrt(rank) : rank));
      const std::string name = ModuleName(layer, slot);
      AddParameter({.name = name + ".lora_A.weight", .shape = {options_.rank, w.n_in}, .value = m.a});
      AddParameter({.name = name + ".lora_B.weight",
                    .shape = {w.n_out, options_.rank},
                    .value = m.b,
                    .order = PeftRowOrder(model_, slot),
                    .n_rows = w.n_out,
                    .learning_rate = options_.loraplus_lr_ratio});
    }
  }
  return {};
}

Json Lora::Config() const {
  PeftLoraConfig config;
  config.r = options_.rank;
  config.lora_alpha = options_.alpha;
  config.lora_dropout = options_.dropout;
  config.use_rslora = options_.rslora;
  config.target_modules = TargetNames();
  return ToJson(config);
}

std::unique_ptr<Method> MakeLora(const Model& model, const PeftOptions& options) {
  return std::make_unique<Lora>(model, options);
}

}  // namespace thimble
