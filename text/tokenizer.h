// Text to token ids and back: byte-level BPE and SentencePiece-style BPE with byte fallback.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/metadata.h"

namespace thimble {

using TokenId = int32_t;

// GGUF's token types (tokenizer.ggml.token_type).
enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

enum class TokenizerModel { kByteBpe, kSentencePieceBpe };

// Which regular expressions split text before byte-level BPE (pre_tokenizer.h). kDefault is what llama.cpp
// takes where tokenizer.ggml.pre is absent or "default".
enum class PreTokenizer { kNone, kDefault, kGpt2, kSmolLm, kLlama3, kQwen2 };

// Where SentencePiece-style BPE puts a space in front. "Text" is what stands between special tokens.
enum class SpacePrefix {
  kNone,
  kEveryText,             // GGUF's add_space_prefix; tokenizer.json's Prepend normalizer
  kEveryTextUnlessSpace,  // Metaspace "always"
  kStartUnlessSpace,      // Metaspace "first": only at the start of the input
};

// Everything that defines a tokenizer, whichever file it came from.
struct TokenizerSpec {
  TokenizerModel model = TokenizerModel::kByteBpe;
  PreTokenizer pre = PreTokenizer::kNone;
  std::vector<std::string> tokens;  // as stored: GPT-2 byte alphabet for kByteBpe, U+2581 for spaces in SPM
  std::vector<TokenType> types;     // same length as tokens
  std::vector<float> scores;        // kSentencePieceBpe without merges: merge order
  std::vector<std::pair<std::string, std::string>> merges;  // kByteBpe, and SPM read from tokenizer.json
  std::optional<TokenId> bos, eos, unk, pad, eot;
  std::vector<TokenId> extra_eog;  // further ids that end generation (generation_config's eos list)
  bool add_bos = false, add_eos = false;
  SpacePrefix space_prefix = SpacePrefix::kNone;  // kSentencePieceBpe
  bool ignore_merges = false;           // Llama 3: a whole pre-token in the vocabulary is taken as it is
  bool normalize_nfc = false;           // Qwen2's tokenizer.json; llama.cpp never does, and GGUF can't say it
  std::vector<TokenId> lstrip, rstrip;  // added tokens that swallow white space beside them; not in GGUF
  std::string chat_template;            // Jinja; empty if the file has none
};

// From a GGUF's tokenizer.* keys. Sizes of parallel arrays, ids and types are checked. `source` names the
// file in errors.
Result<TokenizerSpec> TokenizerSpecFromGguf(const Metadata& metadata, const std::string& source);
// From tokenizer.json (+ tokenizer_config.json, generation_config.json, chat template where given).
Result<TokenizerSpec> TokenizerSpecFromHf(const Json& tokenizer, const Json* tokenizer_config,
                                          const Json* generation_config,
                                          const std::optional<std::string>& chat_template,
                                          const std::string& source);
// The inverse directions, for `thimble convert`.
void TokenizerSpecToGguf(const TokenizerSpec& spec, Metadata& metadata);
struct HfTokenizerFiles {
  Json tokenizer, tokenizer_config;
};
HfTokenizerFiles TokenizerSpecToHf(const TokenizerSpec& spec);

// Immutable after Create; safe to share between threads.
class Tokenizer {
 public:
  // Refuses what TokenizerSpecFrom* can't see alone: duplicate tokens, merges of tokens that don't exist.
  static Result<Tokenizer> Create(TokenizerSpec spec, const std::string& source = "tokenizer");
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // `add_special`: put BOS/EOS as the model asks. `parse_special`: control tokens written in the text
  // ("<|im_start|>") become their ids; user-defined added tokens always do. Where several match, the leftmost
  // and then the longest wins. Bytes that are not UTF-8 are kept.
  std::vector<TokenId> Encode(std::string_view text, bool add_special, bool parse_special) const;

  // Ids out of range are skipped. Control tokens are written only if `with_special`. The space that Encode
  // puts in front is taken away at the start of the text.
  std::string Decode(const std::vector<TokenId>& ids, bool with_special = false) const;
  // The raw bytes of one token (one SPM token keeps its leading space). Empty for control tokens unless
  // asked.
  std::string TokenBytes(TokenId id, bool with_special = false) const;

  const TokenizerSpec& spec() const;
  int64_t vocab_size() const { return static_cast<int64_t>(spec().tokens.size()); }
  std::optional<TokenId> Find(std::string_view token) const;
  // EOS, EOT and the file's other end-of-generation tokens.
  bool IsEndOfGeneration(TokenId id) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Turns a stream of ids into text that never ends inside a UTF-8 character. Bytes that can no longer become
// valid UTF-8 come out as U+FFFD.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(const Tokenizer& tokenizer, bool with_special = false)
      : tokenizer_(&tokenizer), with_special_(with_special) {}
  std::string Push(TokenId id);
  std::string Flush();  // what is left at the end

 private:
  const Tokenizer* tokenizer_;
  bool with_special_;
  bool first_ = true;
  std::string pending_;
};

}  // namespace thimble
