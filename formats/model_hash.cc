#include "formats/model_hash.h"

#include <algorithm>

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

std::string Fingerprint(const ModelFile& file) {
  constexpr size_t kSample = 4096;
  Sha256 hash;
  for (const TensorInfo& tensor : file.tensors()) {
    hash.Update(fmt::format("{} {} {} ", tensor.name, Name(tensor.type), fmt::join(tensor.shape, "x")));
    hash.Update(tensor.bytes.first(std::min(tensor.bytes.size(), kSample)));
  }
  return hash.Hex();
}

}  // namespace thimble
