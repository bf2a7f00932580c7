// What an adapter's file says of it in words (docs/formats/peft.md): in the metadata of a safetensors file,
// or among the keys of a GGUF.
#pragma once

#include <map>
#include <string>

namespace thimble {

using AdapterNotes = std::map<std::string, std::string>;  // all names begin with kNotePrefix
inline constexpr const char* kNotePrefix = "thimble.";
inline constexpr const char* kBaseNote =
    "thimble.base";  // the Fingerprint of the model that it was trained on
inline constexpr const char* kMethodNote = "thimble.method";

}  // namespace thimble
