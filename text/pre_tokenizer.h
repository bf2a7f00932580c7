// Splits text into the pieces within which byte-level BPE merges.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "text/tokenizer.h"

namespace thimble {

// llama.cpp's tokenizer.ggml.pre. `ignore_merges` and `add_bos` are what llama.cpp takes along with the name.
struct PreTokenizerName {
  std::string_view name;
  PreTokenizer pre;
  bool ignore_merges = false, add_bos = false;
};
std::optional<PreTokenizerName> FindPreTokenizer(std::string_view name);
// The name to write; that of one without ignore_merges where the expressions are the same.
std::string_view NameOf(PreTokenizer pre, bool ignore_merges);

// tokenizer.json's expression for its Split pre-tokenizer; empty where the structure is another.
std::string_view HfSplitExpression(PreTokenizer pre);

// Safe to share between threads.
class Splitter {
 public:
  explicit Splitter(PreTokenizer pre);
  Splitter(Splitter&&) noexcept;
  ~Splitter();
  // Calls `piece` for each piece in order; together they are the text. Runs of bytes that are not UTF-8 are
  // pieces.
  void Split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct Expressions;
  std::unique_ptr<const Expressions> expressions_;
};

}  // namespace thimble
