#include "formats/model_hash.h"

#include "base/sha256.h"

namespace thimble {

std::string HashModel(const ModelFile& file) {
  Sha256 hash;
  if (file.gguf) {
    hash.Update(file.gguf->file->bytes());
  } else {
    for (const auto& part : file.hf->weights.files) hash.Update(part->bytes());
  }
  return hash.Hex();
}

}  // namespace thimble
