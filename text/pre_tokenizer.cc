#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pre_tokenizer.h"

#include <pcre2.h>

#include <array>
#include <limits>
#include <string>
#include <vector>

#include "base/check.h"
#include "text/utf8.h"

namespace thimble {
namespace {

// Unicode's White_Space, as the tokenizers' own engines read \s (PCRE2's \s has U+180E too), for use in
// brackets.
#define SPACE R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})"
#define SPACES "[" SPACE "]+"
// A run of spaces leaves its last one to the word behind it.
#define TRAILING_SPACES SPACES "(?![^" SPACE "])"

// openai/gpt-2, encoder.py.
constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" SPACE R"(\p{L}\p{N}]+|)" TRAILING_SPACES "|" SPACES;
// Llama 3 and Qwen2 differ in how many digits stay together.
#define CASELESS_WORDS(digits)                                                              \
  R"('(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits \
  "|"                                                                                       \
  R"( ?[^)" SPACE R"(\p{L}\p{N}]+[\r\n]*|[)" SPACE R"(]*[\r\n]+|)" TRAILING_SPACES "|" SPACES

// Applied one after the other: matches, and what lies between them, are the pieces for the next.
std::vector<const char*> ExpressionsOf(PreTokenizer pre) {
  switch (pre) {
    case PreTokenizer::kNone:
      return {};
    case PreTokenizer::kDefault:  // llama.cpp's src/llama-vocab.cpp, llm_tokenizer_bpe
      return {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Words, R"(\p{N}+)", "[0-9][0-9][0-9]"};
    case PreTokenizer::kGpt2:
      return {kGpt2Words};
    case PreTokenizer::kSmolLm:
      return {R"(\p{N})", kGpt2Words};
    case PreTokenizer::kLlama3:
      return {CASELESS_WORDS(R"(\p{N}{1,3})")};
    case PreTokenizer::kQwen2:
      return {CASELESS_WORDS(R"(\p{N})")};
  }
  return {};
}

// Same expressions under llama.cpp's other names. The first of each is the one to write.
constexpr PreTokenizerName kNames[] = {
    {"default", PreTokenizer::kDefault},
    {"gpt-2", PreTokenizer::kGpt2},
    {"phi-2", PreTokenizer::kGpt2},
    {"olmo", PreTokenizer::kGpt2},
    {"mpt", PreTokenizer::kGpt2},
    {"jais", PreTokenizer::kGpt2},
    {"exaone4", PreTokenizer::kGpt2},
    {"trillion", PreTokenizer::kGpt2},
    {"mellum", PreTokenizer::kGpt2},
    {"smollm", PreTokenizer::kSmolLm},
    {"starcoder", PreTokenizer::kSmolLm},
    {"refact", PreTokenizer::kSmolLm},
    {"command-r", PreTokenizer::kSmolLm},
    {"codeshell", PreTokenizer::kSmolLm},
    {"exaone", PreTokenizer::kSmolLm},
    {"minerva-7b", PreTokenizer::kSmolLm},
    {"llama-bpe", PreTokenizer::kLlama3, true, true},
    {"llama3", PreTokenizer::kLlama3, true, true},
    {"llama-v3", PreTokenizer::kLlama3, true, true},
    {"falcon3", PreTokenizer::kLlama3, true, true},
    {"falcon-h1", PreTokenizer::kLlama3, true, true},
    {"pixtral", PreTokenizer::kLlama3, true, true},
    {"midm-2.0", PreTokenizer::kLlama3, true, true},
    {"lfm2", PreTokenizer::kLlama3, true, true},
    {"smaug-bpe", PreTokenizer::kLlama3},
    {"dbrx", PreTokenizer::kLlama3},
    {"qwen2", PreTokenizer::kQwen2},
    {"deepseek-r1-qwen", PreTokenizer::kQwen2},
    {"stablelm2", PreTokenizer::kQwen2},
    {"megrez", PreTokenizer::kQwen2},
    {"kormo", PreTokenizer::kQwen2},
};

}  // namespace

std::optional<PreTokenizerName> FindPreTokenizer(std::string_view name) {
  for (const PreTokenizerName& known : kNames) {
    if (known.name == name) return known;
  }
  return std::nullopt;
}

std::string_view NameOf(PreTokenizer pre, bool ignore_merges) {
  std::string_view found;
  for (const PreTokenizerName& known : kNames) {
    if (known.pre != pre) continue;
    if (known.ignore_merges == ignore_merges) return known.name;
    if (found.empty()) found = known.name;
  }
  return found;
}

std::string_view HfSplitExpression(PreTokenizer pre) {
  switch (pre) {
    case PreTokenizer::kLlama3:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    case PreTokenizer::kQwen2:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    default:
      return {};
  }
}

struct Splitter::Expressions {
  std::vector<pcre2_code*> stages;
  ~Expressions() {
    for (pcre2_code* code : stages) pcre2_code_free(code);
  }
};

namespace {

// One call's working memory: a match block serves one thread at a time.
class SplitRun {
 public:
  SplitRun(const std::vector<pcre2_code*>& stages, const std::function<void(std::string_view)>& piece)
      : stages_(stages), piece_(piece), context_(pcre2_match_context_create(nullptr)) {
    CHECK(context_ != nullptr);
    // No expression here backtracks more than once over a run, so the text's length is the only limit.
    pcre2_set_match_limit(context_, std::numeric_limits<uint32_t>::max());
    for (size_t i = 0; i < stages.size(); ++i) blocks_.push_back(pcre2_match_data_create(1, nullptr));
  }
  ~SplitRun() {
    for (pcre2_match_data* block : blocks_) pcre2_match_data_free(block);
    pcre2_match_context_free(context_);
  }
  SplitRun(const SplitRun&) = delete;
  SplitRun& operator=(const SplitRun&) = delete;

  // `text` is valid UTF-8. Each stage sees its piece alone: look-aheads stop at the piece's end.
  void Split(std::string_view text, size_t stage) {
    if (stage == stages_.size()) {
      piece_(text);
      return;
    }
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    size_t done = 0;
    while (done < text.size()) {
      const int found = pcre2_match(stages_[stage], subject, text.size(), done, PCRE2_NO_UTF_CHECK,
                                    blocks_[stage], context_);
      const size_t* span = pcre2_get_ovector_pointer(blocks_[stage]);
      const size_t begin = found > 0 ? span[0] : text.size(), end = found > 0 ? span[1] : text.size();
      if (begin > done) Split(text.substr(done, begin - done), stage + 1);
      if (end > begin) Split(text.substr(begin, end - begin), stage + 1);
      done = end;
    }
  }

 private:
  const std::vector<pcre2_code*>& stages_;
  const std::function<void(std::string_view)>& piece_;
  pcre2_match_context* context_;
  std::vector<pcre2_match_data*> blocks_;
};

}  // namespace

Splitter::Splitter(PreTokenizer pre) {
  auto expressions = std::make_unique<Expressions>();
  for (const char* source : ExpressionsOf(pre)) {
    int error = 0;
    size_t offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source), PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    CHECK(code != nullptr);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, pcre2_match interprets
    expressions->stages.push_back(code);
  }
  expressions_ = std::move(expressions);
}

Splitter::Splitter(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

void Splitter::Split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  SplitRun run(expressions_->stages, piece);
  while (!text.empty()) {
    const size_t valid = ValidUtf8Length(text);
    if (valid > 0) run.Split(text.substr(0, valid), 0);
    text.remove_prefix(valid);
    size_t invalid = 0;
    while (invalid < text.size()) {
      const Utf8Char c = DecodeUtf8(text.substr(invalid));
      if (c.kind == Utf8Char::kValid) break;
      invalid += static_cast<size_t>(c.length);
    }
    if (invalid > 0) piece(text.substr(0, invalid));
    text.remove_prefix(invalid);
  }
}

}  // namespace thimble
