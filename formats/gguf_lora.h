// A LoRA adapter in one GGUF file, as llama.cpp's convert_lora_to_gguf.py writes it (docs/formats/gguf.md).
#pragma once

#include <string>

#include "base/result.h"
#include "formats/adapter_notes.h"
#include "formats/gguf.h"

namespace thimble {

struct GgufLora {
  GgufFile file;     // tensors "<weight>.lora_a" [r, n_in] and "<weight>.lora_b" [n_out, r], or of our own
                     // "<weight>.lora_b_t" [r, n_out]
  std::string arch;  // general.architecture of the base
  float alpha = 0;   // scale = alpha / r; 0: the scale is 1
  AdapterNotes notes;
};

Result<GgufLora> ReadGgufLora(const std::string& path);

Status WriteGgufLora(const std::string& path, const std::string& arch, float alpha,
                     const TensorTable& tensors, const AdapterNotes& notes = {});

}  // namespace thimble
