#pragma once

#include <string>

#include "formats/model_file.h"

namespace thimble {

// The SHA-256 of a GGUF file, or of a folder's weights one after another.
std::string HashModel(const ModelFile& file);

// What adapters are bound to their base by: the SHA-256 of every tensor's name, type and shape and of the
// first 4 KiB of its bytes. Any other rounding of a model has another, and a gigabyte takes milliseconds.
std::string Fingerprint(const ModelFile& file);

}  // namespace thimble
