// Tokens whose text says what they are, where files often don't (llama.cpp's src/llama-vocab.cpp has this
// list).
#pragma once

#include <string_view>

namespace thimble {

struct KnownToken {
  std::string_view text;
  bool ends_generation;
};

inline constexpr KnownToken kKnownTokens[] = {
    {"<|eot_id|>", true},      {"<|im_end|>", true},    {"<|end|>", true},       {"<|endoftext|>", true},
    {"<|end_of_text|>", true}, {"<|eom_id|>", true},    {"</s>", true},          {"<eos>", true},
    {"<end_of_turn>", true},   {"<EOT>", true},         {"_<EOT>", true},        {"[EOT]", true},
    {"[EOS]", true},           {"<|fim_pad|>", true},   {"<fim-pad>", true},     {"<fim_pad>", true},
    {"<PAD>", true},           {"<|fim_repo|>", true},  {"<|repo_name|>", true}, {"<fim-repo>", true},
    {"<REPO>", true},          {"<reponame>", true},    {"<|file_sep|>", true},  {"<end_of_utterance>", true},
    {"<|fim_prefix|>", false}, {"<fim-prefix>", false}, {"<fim_prefix>", false}, {"<PRE>", false},
    {"<|fim_suffix|>", false}, {"<fim-suffix>", false}, {"<fim_suffix>", false}, {"<SUF>", false},
    {"<|fim_middle|>", false}, {"<fim-middle>", false}, {"<fim_middle>", false}, {"<MID>", false},
};

// With what they begin: most of a vocabulary need not be compared with each of them.
inline constexpr std::string_view kKnownTokenStarts = "<_[";
static_assert([] {
  for (const KnownToken& known : kKnownTokens) {
    if (kKnownTokenStarts.find(known.text[0]) == std::string_view::npos) return false;
  }
  return true;
}());

// nullptr: not one of them.
inline const KnownToken* FindKnownToken(std::string_view text) {
  if (text.empty() || kKnownTokenStarts.find(text[0]) == std::string_view::npos) return nullptr;
  for (const KnownToken& known : kKnownTokens) {
    if (known.text == text) return &known;
  }
  return nullptr;
}

}  // namespace thimble
