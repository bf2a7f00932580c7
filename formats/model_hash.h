#pragma once

#include <string>

#include "formats/model_file.h"

namespace thimble {

// The SHA-256 of a GGUF file, or of a folder's weights one after another.
std::string HashModel(const ModelFile& file);

}  // namespace thimble
