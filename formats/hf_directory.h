// A model folder as Hugging Face Transformers saves it.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
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
};

Result<HfDirectory> ReadHfDirectory(const std::string& path);

}  // namespace thimble
