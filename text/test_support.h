// Where the tests find real tokenizers.
#pragma once

#include <stdexcept>
#include <string>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace thimble {

inline std::string SharedPath(const std::string& name) {
  return THIMBLE_SOURCE_DIR "/../shared/" + name;
}
inline std::string ModelPath(const std::string& name) {
  return THIMBLE_SOURCE_DIR "/models/" + name;
}
inline std::string GoldenPath(const std::string& name) {
  return THIMBLE_SOURCE_DIR "/tests/golden/" + name;
}

// The value, or an exception that fails the test with the error's message.
template <typename T>
T Unwrap(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return *std::move(result);
}

inline TokenizerSpec SpecOf(const std::string& gguf) {
  return Unwrap(TokenizerSpecFromGguf(Unwrap(ReadGguf(gguf)).metadata, gguf));
}
inline Tokenizer TokenizerOf(const std::string& gguf) {
  return Unwrap(Tokenizer::Create(SpecOf(gguf), gguf));
}

}  // namespace thimble
