// What a model or adapter file is, for `thimble inspect`.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"

namespace thimble {

// Of a GGUF or Hugging Face folder: kind ("gguf", "huggingface"), architecture, name, bytes, n_parameters,
// bits_per_weight, file_type, types [{type, tensors, weights, bytes}], config, tokenizer, chat_template,
// metadata (long arrays as {"type", "length"}). Of a PEFT folder or GGUF LoRA: kind ("peft", "gguf-lora"),
// peft_type, rank, alpha, base, target_modules, bytes, n_parameters, types, metadata. In both: notes (what is
// unusual, in sentences), and tensors [{name, type, shape, bytes}] if asked for.
Result<Json> Inspect(const std::string& path, bool with_tensors);

}  // namespace thimble
