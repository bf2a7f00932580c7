// TokenizerSpec from and to a GGUF's tokenizer.* keys (ggml-org/ggml, docs/gguf.md), with llama.cpp's
// defaults.
#include <cmath>
#include <limits>

#include "base/check.h"
#include "text/known_tokens.h"
#include "text/pre_tokenizer.h"
#include "text/spm_scores.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

// Reads one file's keys; the errors name the file and the key.
class Reader {
 public:
  Reader(const Metadata& metadata, const std::string& source) : metadata_(metadata), source_(source) {}

  template <typename... Args>
  tl::unexpected<Error> Fail(std::string_view key, fmt::format_string<Args...> format, Args&&... args) const {
    return MakeError(ErrorCode::kCorrupt, "{}: {}: {}", source_, key,
                     fmt::format(format, std::forward<Args>(args)...));
  }

  Result<std::optional<std::string>> String(std::string_view key) const {
    if (!metadata_.Has(key)) return std::nullopt;
    std::optional<std::string> value = metadata_.String(key);
    if (!value) return Fail(key, "must be a string");
    return value;
  }

  Result<bool> Bool(std::string_view key, bool otherwise) const {
    if (!metadata_.Has(key)) return otherwise;
    const std::optional<bool> value = metadata_.Bool(key);
    if (!value) return Fail(key, "must be true or false");
    return *value;
  }

  // An id below `n_tokens`.
  Result<std::optional<TokenId>> Id(std::string_view key, size_t n_tokens) const {
    if (!metadata_.Has(key)) return std::nullopt;
    const std::optional<int64_t> value = metadata_.Int(key);
    if (!value) return Fail(key, "must be a whole number");
    if (*value < 0 || *value >= static_cast<int64_t>(n_tokens)) {
      return Fail(key, "id {} is outside the vocabulary of {}", *value, n_tokens);
    }
    return static_cast<TokenId>(*value);
  }

 private:
  const Metadata& metadata_;
  const std::string& source_;
};

constexpr std::string_view kTokens = "tokenizer.ggml.tokens", kTypes = "tokenizer.ggml.token_type",
                           kScores = "tokenizer.ggml.scores", kMerges = "tokenizer.ggml.merges",
                           kModel = "tokenizer.ggml.model", kPre = "tokenizer.ggml.pre",
                           kAddBos = "tokenizer.ggml.add_bos_token", kAddEos = "tokenizer.ggml.add_eos_token",
                           kAddSpacePrefix = "tokenizer.ggml.add_space_prefix",
                           kEom = "tokenizer.ggml.eom_token_id", kTemplate = "tokenizer.chat_template";

struct IdKey {
  std::string_view key;
  std::optional<TokenId> TokenizerSpec::*id;
};
constexpr IdKey kIds[] = {{"tokenizer.ggml.bos_token_id", &TokenizerSpec::bos},
                          {"tokenizer.ggml.eos_token_id", &TokenizerSpec::eos},
                          {"tokenizer.ggml.eot_token_id", &TokenizerSpec::eot},
                          {"tokenizer.ggml.unknown_token_id", &TokenizerSpec::unk},
                          {"tokenizer.ggml.padding_token_id", &TokenizerSpec::pad}};

Status ReadTokens(const Reader& in, const Metadata& metadata, TokenizerSpec& spec) {
  const StringList* tokens = metadata.Strings(kTokens);
  if (tokens == nullptr || tokens->empty()) return in.Fail(kTokens, "must be a list of strings");
  spec.tokens = tokens->ToVector();
  const size_t n = spec.tokens.size();
  spec.types.assign(n, TokenType::kNormal);
  if (metadata.Has(kTypes)) {
    const std::optional<std::vector<int64_t>> types = metadata.Ints(kTypes);
    if (!types) return in.Fail(kTypes, "must be a list of whole numbers");
    if (types->size() != n) return in.Fail(kTypes, "has {} entries for {} tokens", types->size(), n);
    for (size_t i = 0; i < n; ++i) {
      if ((*types)[i] < 1 || (*types)[i] > 6)
        return in.Fail(kTypes, "entry {} is {}, not a token type", i, (*types)[i]);
      spec.types[i] = static_cast<TokenType>((*types)[i]);
    }
  }
  // llama.cpp doesn't let text without parse_special become these, whatever the file calls them.
  for (size_t i = 0; i < n; ++i) {
    if (FindKnownToken(spec.tokens[i]) != nullptr) spec.types[i] = TokenType::kControl;
  }
  return {};
}

Status ReadScores(const Reader& in, const Metadata& metadata, TokenizerSpec& spec) {
  std::optional<std::vector<float>> scores = metadata.Floats(kScores);
  if (!scores) return in.Fail(kScores, "must be a list of numbers");
  if (scores->size() != spec.tokens.size()) {
    return in.Fail(kScores, "has {} entries for {} tokens", scores->size(), spec.tokens.size());
  }
  for (size_t i = 0; i < scores->size(); ++i) {
    if (!std::isfinite((*scores)[i])) return in.Fail(kScores, "entry {} is not finite", i);
  }
  spec.scores = *std::move(scores);
  return {};
}

Status ReadMerges(const Reader& in, const Metadata& metadata, TokenizerSpec& spec) {
  const StringList* merges = metadata.Strings(kMerges);
  if (merges == nullptr) return in.Fail(kMerges, "must be a list of strings");
  spec.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const std::string_view merge = (*merges)[i];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size()) {
      return in.Fail(kMerges, "entry {}, \"{}\", is not two tokens with a space between them", i, merge);
    }
    spec.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> TokenizerSpecFromGguf(const Metadata& metadata, const std::string& source) {
  const Reader in(metadata, source);
  TokenizerSpec spec;
  ASSIGN_OR_RETURN(const std::optional<std::string> model, in.String(kModel));
  if (!model) {
    return MakeError(ErrorCode::kNotFound, "{}: {} is missing: the file has no tokenizer", source, kModel);
  }
  RETURN_IF_ERROR(ReadTokens(in, metadata, spec));
  const bool spm = *model == "llama";
  PreTokenizerName pre{"default", PreTokenizer::kDefault};
  if (spm) {
    spec.model = TokenizerModel::kSentencePieceBpe;
    // A merge list beside the scores is what TokenizerSpecToGguf writes where scores can't say the same.
    RETURN_IF_ERROR(ReadScores(in, metadata, spec));
    if (metadata.Has(kMerges)) RETURN_IF_ERROR(ReadMerges(in, metadata, spec));
    ASSIGN_OR_RETURN(const bool prefix, in.Bool(kAddSpacePrefix, true));
    spec.space_prefix = prefix ? SpacePrefix::kEveryText : SpacePrefix::kNone;
    const auto n = static_cast<TokenId>(std::min(spec.tokens.size(), size_t{3}));
    if (n > 0) spec.unk = 0;
    if (n > 1) spec.bos = 1;
    if (n > 2) spec.eos = 2;
  } else if (*model == "gpt2") {
    ASSIGN_OR_RETURN(const std::optional<std::string> name, in.String(kPre));
    if (name) {
      const std::optional<PreTokenizerName> known = FindPreTokenizer(*name);
      if (!known) {
        return MakeError(ErrorCode::kUnsupported, "{}: {}: Thimble doesn't know the pre-tokenizer \"{}\"",
                         source, kPre, *name);
      }
      pre = *known;
    }
    spec.pre = pre.pre;
    spec.ignore_merges = pre.ignore_merges;
    RETURN_IF_ERROR(ReadMerges(in, metadata, spec));
  } else {
    return MakeError(ErrorCode::kUnsupported,
                     "{}: {}: tokenizers of type \"{}\" are not supported, only \"gpt2\" and \"llama\"",
                     source, kModel, *model);
  }
  for (const IdKey& field : kIds) {
    ASSIGN_OR_RETURN(const std::optional<TokenId> id, in.Id(field.key, spec.tokens.size()));
    if (id) spec.*field.id = id;
  }
  ASSIGN_OR_RETURN(const std::optional<TokenId> eom, in.Id(kEom, spec.tokens.size()));
  if (eom) spec.extra_eog.push_back(*eom);
  ASSIGN_OR_RETURN(spec.add_bos, in.Bool(kAddBos, spm || pre.add_bos));
  ASSIGN_OR_RETURN(spec.add_eos, in.Bool(kAddEos, false));
  if (spec.add_bos && !spec.bos) return in.Fail(kAddBos, "is true, but there is no bos_token_id");
  if (spec.add_eos && !spec.eos) return in.Fail(kAddEos, "is true, but there is no eos_token_id");
  ASSIGN_OR_RETURN(const std::optional<std::string> chat_template, in.String(kTemplate));
  spec.chat_template = chat_template.value_or("");
  return spec;
}

void TokenizerSpecToGguf(const TokenizerSpec& spec, Metadata& metadata) {
  const bool spm = spec.model == TokenizerModel::kSentencePieceBpe;
  metadata.Set(kModel, MetadataValue(std::string(spm ? "llama" : "gpt2")));
  metadata.Set(kPre, MetadataValue(std::string(spm ? "default" : NameOf(spec.pre, spec.ignore_merges))));
  metadata.Set(kTokens, MetadataValue(spec.tokens));
  if (spm) {
    metadata.Set(kScores, MetadataValue(spec.scores.empty() ? ScoresFromMerges(spec) : spec.scores));
    metadata.Set(kAddSpacePrefix, MetadataValue(spec.space_prefix != SpacePrefix::kNone));
  }
  std::vector<int32_t> types(spec.types.size());
  for (size_t i = 0; i < types.size(); ++i) types[i] = static_cast<int32_t>(spec.types[i]);
  metadata.Set(kTypes, MetadataValue(std::move(types)));
  if (!spec.merges.empty() && (!spm || !ScoresSayMerges(spec))) {
    StringList merges;
    for (const auto& [left, right] : spec.merges) merges.Add(left + " " + right);
    metadata.Set(kMerges, MetadataValue(std::move(merges)));
  }
  for (const IdKey& field : kIds) {
    if (spec.*field.id) metadata.Set(field.key, MetadataValue(static_cast<uint32_t>(*(spec.*field.id))));
  }
  if (!spec.extra_eog.empty()) {
    if (!spec.eot) {
      metadata.Set("tokenizer.ggml.eot_token_id", MetadataValue(static_cast<uint32_t>(spec.extra_eog[0])));
    }
    if (spec.extra_eog.size() > 1 || spec.eot) {
      metadata.Set(kEom, MetadataValue(static_cast<uint32_t>(spec.extra_eog.back())));
    }
  }
  metadata.Set(kAddBos, MetadataValue(spec.add_bos));
  metadata.Set(kAddEos, MetadataValue(spec.add_eos));
  if (!spec.chat_template.empty()) metadata.Set(kTemplate, MetadataValue(spec.chat_template));
}

}  // namespace thimble
