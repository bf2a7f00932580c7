// A model folder as Hugging Face Transformers saves it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/coded_matrix.h"
#include "formats/safetensors.h"

namespace thimble {

struct HfDirectory {
  std::string path;
  Json config;  // config.json, required
  std::optional<Json> generation_config;
  std::optional<Json> tokenizer;  // tokenizer.json
  std::optional<Json> tokenizer_config;
  std::optional<std::string> chat_template;  // chat_template.jinja, else tokenizer_config's "chat_template"
  SafetensorsFile weights;
  std::vector<CodedMatrix>
      coded;  // matrices that others quantized, until UnpackMatrices puts them into weights

  std::vector<ImportedTensor> imported;                      // what they became
  std::vector<std::shared_ptr<std::vector<uint8_t>>> owned;  // their bytes
};

Result<HfDirectory> ReadHfDirectory(const std::string& path);

// Turns `coded` into tensors that a model can be made of: GGUF's types where those say the same numbers, else
// plain numbers. Takes memory for all of them.
Status UnpackMatrices(HfDirectory& directory);

}  // namespace thimble
