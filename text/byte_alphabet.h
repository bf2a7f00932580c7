// GPT-2's byte alphabet: a printable character for each byte, in which byte-level vocabularies are written
// (openai/gpt-2, encoder.py, bytes_to_unicode).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thimble {

std::string ByteToAlphabet(unsigned char byte);  // UTF-8
std::string BytesToAlphabet(std::string_view bytes);
// nullopt if a character is not of the alphabet.
std::optional<std::string> AlphabetToBytes(std::string_view text);

}  // namespace thimble
