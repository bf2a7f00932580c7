// LoRA adapters from a PEFT folder to a GGUF file and back.
#pragma once

#include <string>

#include "base/result.h"
#include "formats/peft_adapter.h"
#include "model/model.h"

namespace thimble {

// A PEFT folder, or a GGUF whose general.type says so. False for what cannot be read.
bool IsAdapter(const std::string& path);

// The configuration under which PEFT gives each module the rank and scale that it has in `adapter`.
PeftLoraConfig PeftConfigOf(const Adapter& adapter, const Model& model);

// From the kind that `in` has to the other, in F32, or in `type` to a GGUF. The base says which rows of B
// change places.
Status ConvertAdapter(const std::string& in, const std::string& base, const std::string& out,
                      WeightType type = WeightType::kF32);

}  // namespace thimble
