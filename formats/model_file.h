// A model as a user names it: a GGUF file or a Hugging Face folder.
#pragma once

#include <optional>
#include <string>

#include "formats/gguf.h"
#include "formats/hf_directory.h"

namespace thimble {

// Exactly one of the two is set.
struct ModelFile {
  std::string path;
  std::optional<GgufFile> gguf;
  std::optional<HfDirectory> hf;

  const TensorTable& tensors() const { return gguf ? gguf->tensors : hf->weights.tensors; }
};

Result<ModelFile> OpenModelFile(const std::string& path);

}  // namespace thimble
