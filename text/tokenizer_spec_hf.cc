// TokenizerSpec from Hugging Face's tokenizer.json, tokenizer_config.json and generation_config.json.
#include <algorithm>
#include <unordered_map>

#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

const Json kNull;

// A member of an object; null where it is absent or `object` is something else.
const Json& Get(const Json& object, const char* key) {
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}
bool IsType(const Json& object, const char* type) {
  return Get(object, "type") == Json(type);
}
// A flag that is absent or null is `otherwise`.
bool Flag(const Json& object, const char* key, bool otherwise) {
  const Json& value = Get(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}
// A whole number from 0 to below `limit`.
std::optional<size_t> IndexBelow(size_t limit, const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const auto index = static_cast<size_t>(value.get<int64_t>());  // negative ones become too large
  return index < limit ? std::optional<size_t>(index) : std::nullopt;
}
// What a field holds, for messages.
std::string Brief(const Json& value) {
  const std::string text = DumpJson(value);
  return text.size() <= 120 ? text : text.substr(0, 117) + "...";
}

class Reader {
 public:
  Reader(const Json& tokenizer, const std::string& source)
      : json_(tokenizer), model_(Get(tokenizer, "model")), source_(source) {}
  Result<TokenizerSpec> Read();

 private:
  template <typename... Args>
  tl::unexpected<Error> Fail(ErrorCode code, std::string_view field, fmt::format_string<Args...> format,
                             Args&&... args) const {
    return MakeError(code, "{}: tokenizer.json: {}: {}", source_, field,
                     fmt::format(format, std::forward<Args>(args)...));
  }
  tl::unexpected<Error> Unsupported(std::string_view field, const Json& value) const {
    return Fail(ErrorCode::kUnsupported, field, "Thimble doesn't do this: {}", Brief(value));
  }
  tl::unexpected<Error> Unsupported(std::string_view field) const {
    return Unsupported(field, Get(json_, std::string(field).c_str()));
  }

  Status CheckModel();
  Status ReadVocabulary();
  Status ReadMerges();
  Status ReadAddedTokens();
  Status AddAddedToken(const Json& entry, const std::string& field);
  void FillHoles();
  Status ReadByteLevel();
  Status ReadSentencePiece();
  Status ReadMetaspace(const Json& metaspace);
  Status ReadPostProcessor();

  const Json& json_;
  const Json& model_;
  const std::string& source_;
  TokenizerSpec spec_;
  std::vector<bool> given_;  // ids that the file mentions
};

Result<TokenizerSpec> Reader::Read() {
  if (!json_.is_object() || !model_.is_object()) {
    return Fail(ErrorCode::kCorrupt, "model", "is missing: not a tokenizer of the \"tokenizers\" library");
  }
  RETURN_IF_ERROR(CheckModel());
  RETURN_IF_ERROR(ReadVocabulary());
  RETURN_IF_ERROR(ReadAddedTokens());
  FillHoles();
  RETURN_IF_ERROR(ReadMerges());
  if (Flag(model_, "byte_fallback", false)) {
    RETURN_IF_ERROR(ReadSentencePiece());
  } else {
    RETURN_IF_ERROR(ReadByteLevel());
  }
  RETURN_IF_ERROR(ReadPostProcessor());
  return std::move(spec_);
}

Status Reader::CheckModel() {
  const Json& type = Get(model_, "type");
  if (type != Json("BPE") && !(type.is_null() && Get(model_, "merges").is_array())) {
    return Fail(ErrorCode::kUnsupported, "model.type", "only BPE is supported, not {}", Brief(type));
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& value = Get(model_, affix);
    if (!value.is_null() && value != Json("")) return Unsupported(std::string("model.") + affix, value);
  }
  return {};
}

Status Reader::ReadVocabulary() {
  const Json& vocab = Get(model_, "vocab");
  const Json& added = Get(json_, "added_tokens");
  if (!vocab.is_object() || vocab.empty()) {
    return Fail(ErrorCode::kCorrupt, "model.vocab", "must be an object of token to id");
  }
  if (!added.is_null() && !added.is_array())
    return Fail(ErrorCode::kCorrupt, "added_tokens", "must be a list");
  // Real files leave few ids out; a damaged one must not make us allocate for ids that it has no tokens for.
  const size_t limit = 2 * (vocab.size() + added.size()) + 1024;
  const auto put = [&](const std::string& token, const Json& id, const std::string& field) -> Status {
    const std::optional<size_t> at = IndexBelow(limit, id);
    if (!at) return Fail(ErrorCode::kCorrupt, field, "not a possible id: {}", Brief(id));
    if (*at >= given_.size()) {
      given_.resize(*at + 1);
      spec_.tokens.resize(*at + 1);
    }
    if (given_[*at] && spec_.tokens[*at] != token) {
      return Fail(ErrorCode::kCorrupt, field, "id {} is both \"{}\" and \"{}\"", *at, spec_.tokens[*at],
                  token);
    }
    given_[*at] = true;
    spec_.tokens[*at] = token;
    return {};
  };
  for (const auto& [token, id] : vocab.items()) RETURN_IF_ERROR(put(token, id, "model.vocab"));
  for (size_t i = 0; i < added.size(); ++i) {
    const std::string field = fmt::format("added_tokens[{}]", i);
    const Json& content = Get(added[i], "content");
    if (!content.is_string()) return Fail(ErrorCode::kCorrupt, field, "has no text as \"content\"");
    RETURN_IF_ERROR(put(content.get<std::string>(), Get(added[i], "id"), field));
  }
  spec_.types.assign(spec_.tokens.size(), TokenType::kNormal);
  return {};
}

Status Reader::ReadAddedTokens() {
  const Json& unk = Get(model_, "unk_token");
  for (const Json& entry : Get(json_, "added_tokens")) {
    const auto id = Get(entry, "id").get<TokenId>();
    const std::string field = fmt::format("added_tokens, id {}", id);
    if (Flag(entry, "single_word", false)) return Unsupported(field, entry);
    const bool special = Flag(entry, "special", false);
    const bool is_unknown = special && Get(entry, "content") == unk;
    spec_.types[static_cast<size_t>(id)] = is_unknown ? TokenType::kUnknown
                                           : special  ? TokenType::kControl
                                                      : TokenType::kUserDefined;
    if (Flag(entry, "lstrip", false)) spec_.lstrip.push_back(id);
    if (Flag(entry, "rstrip", false)) spec_.rstrip.push_back(id);
  }
  if (unk.is_string()) {
    const auto found = std::find(spec_.tokens.begin(), spec_.tokens.end(), unk.get_ref<const std::string&>());
    if (found != spec_.tokens.end()) spec_.unk = static_cast<TokenId>(found - spec_.tokens.begin());
  }
  return {};
}

// As llama.cpp's converter names ids without a token.
void Reader::FillHoles() {
  for (size_t i = 0; i < given_.size(); ++i) {
    if (given_[i]) continue;
    spec_.tokens[i] = fmt::format("[PAD{}]", i);
    spec_.types[i] = TokenType::kUnused;
  }
}

// "a b" in older files, ["a", "b"] in newer ones.
Status Reader::ReadMerges() {
  const Json& merges = Get(model_, "merges");
  if (!merges.is_array()) return Fail(ErrorCode::kCorrupt, "model.merges", "must be a list");
  spec_.merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      spec_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : std::string();
    const size_t space = text.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == text.size()) {
      return Fail(ErrorCode::kCorrupt, fmt::format("model.merges[{}]", i), "not two tokens: {}",
                  Brief(merge));
    }
    spec_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return {};
}

Status Reader::ReadByteLevel() {
  const Json& normalizer = Get(json_, "normalizer");
  if (IsType(normalizer, "NFC")) {
    spec_.normalize_nfc = true;
  } else if (!normalizer.is_null()) {
    return Unsupported("normalizer");
  }
  const Json& pre = Get(json_, "pre_tokenizer");
  const Json& steps = Get(pre, "pretokenizers");
  const bool is_sequence = IsType(pre, "Sequence") && steps.is_array() && steps.size() == 2;
  const Json& byte_level = is_sequence ? steps[1] : pre;
  if (!IsType(byte_level, "ByteLevel") || Flag(byte_level, "add_prefix_space", true)) {
    return Unsupported("pre_tokenizer");
  }
  const bool gpt2 = Flag(byte_level, "use_regex", true);
  const Json& first = is_sequence ? steps[0] : kNull;
  if (first.is_null() && gpt2) {
    spec_.pre = PreTokenizer::kGpt2;
  } else if (IsType(first, "Digits") && Flag(first, "individual_digits", false) && gpt2) {
    spec_.pre = PreTokenizer::kSmolLm;
  } else if (IsType(first, "Split") && Get(first, "behavior") == Json("Isolated") &&
             !Flag(first, "invert", false) && !gpt2) {
    for (PreTokenizer known : {PreTokenizer::kLlama3, PreTokenizer::kQwen2}) {
      if (Get(Get(first, "pattern"), "Regex") == Json(HfSplitExpression(known))) spec_.pre = known;
    }
  }
  if (spec_.pre == PreTokenizer::kNone) return Unsupported("pre_tokenizer");
  spec_.ignore_merges = Flag(model_, "ignore_merges", false);
  return {};
}

Status Reader::ReadSentencePiece() {
  spec_.model = TokenizerModel::kSentencePieceBpe;
  const Json& normalizer = Get(json_, "normalizer");
  std::vector<Json> steps;
  if (IsType(normalizer, "Sequence")) {
    for (const Json& step : Get(normalizer, "normalizers")) steps.push_back(step);
  } else if (!normalizer.is_null()) {
    steps.push_back(normalizer);
  }
  bool replaces = false;
  for (const Json& step : steps) {
    if (IsType(step, "Prepend") && Get(step, "prepend") == Json("▁") && !replaces) {
      spec_.space_prefix = SpacePrefix::kEveryText;
    } else if (IsType(step, "Replace") && Get(Get(step, "pattern"), "String") == Json(" ") &&
               Get(step, "content") == Json("▁")) {
      replaces = true;
    } else {
      return Unsupported("normalizer");
    }
  }
  // Where the normalizer has replaced every space, Gemma's split at spaces finds none.
  const Json& pre = Get(json_, "pre_tokenizer");
  const bool splits_nothing = IsType(pre, "Split") && Get(Get(pre, "pattern"), "String") == Json(" ");
  if (replaces ? !pre.is_null() && !splits_nothing : !IsType(pre, "Metaspace"))
    return Unsupported("pre_tokenizer");
  if (!replaces) RETURN_IF_ERROR(ReadMetaspace(pre));
  for (size_t i = 0; i < spec_.tokens.size(); ++i) {
    const std::string& token = spec_.tokens[i];
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    if (token.size() == 6 && token.starts_with("<0x") && is_hex(token[3]) && is_hex(token[4]) &&
        token[5] == '>') {
      spec_.types[i] = TokenType::kByte;
    }
  }
  return {};
}

Status Reader::ReadMetaspace(const Json& metaspace) {
  const Json& scheme = Get(metaspace, "prepend_scheme");
  if (Get(metaspace, "replacement") != Json("▁") || Flag(metaspace, "split", true))
    return Unsupported("pre_tokenizer");
  if (scheme == Json("first")) {
    spec_.space_prefix = SpacePrefix::kStartUnlessSpace;
  } else if (scheme == Json("never")) {
    spec_.space_prefix = SpacePrefix::kNone;
  } else if (scheme.is_null() || scheme == Json("always")) {
    spec_.space_prefix = SpacePrefix::kEveryTextUnlessSpace;
  } else {
    return Unsupported("pre_tokenizer");
  }
  return {};
}

// TemplateProcessing says what goes around one text: at most one token on each side.
Status Reader::ReadPostProcessor() {
  const Json& post = Get(json_, "post_processor");
  std::vector<const Json*> steps = {&post};
  if (IsType(post, "Sequence")) {
    steps.clear();
    for (const Json& step : Get(post, "processors")) steps.push_back(&step);
  }
  for (const Json* step : steps) {
    if (step->is_null() || IsType(*step, "ByteLevel")) continue;
    if (!IsType(*step, "TemplateProcessing")) return Unsupported("post_processor");
    bool before = true;
    for (const Json& part : Get(*step, "single")) {
      const Json& special = Get(Get(part, "SpecialToken"), "id");
      if (!special.is_string()) {
        before = false;
        continue;
      }
      const auto found =
          std::find(spec_.tokens.begin(), spec_.tokens.end(), special.get_ref<const std::string&>());
      if (found == spec_.tokens.end() || (before ? spec_.add_bos : spec_.add_eos))
        return Unsupported("post_processor");
      (before ? spec_.bos : spec_.eos) = static_cast<TokenId>(found - spec_.tokens.begin());
      (before ? spec_.add_bos : spec_.add_eos) = true;
    }
  }
  return {};
}

// tokenizer_config.json names tokens by text, or by {"content": text}.
Status ReadTokenizerConfig(const Json& config, const std::string& source, TokenizerSpec& spec) {
  const auto fail = [&](const char* key, const char* what) {
    return MakeError(ErrorCode::kCorrupt, "{}: tokenizer_config.json: {}: {}", source, key, what);
  };
  const std::pair<const char*, std::optional<TokenId> TokenizerSpec::*> kTokens[] = {
      {"bos_token", &TokenizerSpec::bos},
      {"eos_token", &TokenizerSpec::eos},
      {"unk_token", &TokenizerSpec::unk},
      {"pad_token", &TokenizerSpec::pad}};
  for (const auto& [key, id] : kTokens) {
    const Json& field = Get(config, key);
    if (field.is_null()) continue;
    const Json& text = field.is_object() ? Get(field, "content") : field;
    if (!text.is_string()) return fail(key, "must be a token's text");
    const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), text.get_ref<const std::string&>());
    if (found == spec.tokens.end()) return fail(key, "is not in the vocabulary");
    const auto token = static_cast<TokenId>(found - spec.tokens.begin());
    // Where the post-processor puts another token at an end, that one decides what Encode gives.
    const bool fixed =
        (id == &TokenizerSpec::bos && spec.add_bos) || (id == &TokenizerSpec::eos && spec.add_eos);
    if (fixed && spec.*id != token) spec.extra_eog.push_back(token);
    if (!fixed) spec.*id = token;
  }
  return {};
}

// Ids of generation_config.json: one, or a list.
Status ReadGenerationConfig(const Json& config, const std::string& source, TokenizerSpec& spec) {
  const auto ids_of = [&](const char* key) -> Result<std::vector<TokenId>> {
    const Json& field = Get(config, key);
    std::vector<TokenId> ids;
    if (field.is_null()) return ids;
    for (const Json& id : field.is_array() ? field : Json::array({field})) {
      const std::optional<size_t> index = IndexBelow(spec.tokens.size(), id);
      if (!index) {
        return MakeError(ErrorCode::kCorrupt,
                         "{}: generation_config.json: {}: {} is not an id of the vocabulary", source, key,
                         Brief(id));
      }
      ids.push_back(static_cast<TokenId>(*index));
    }
    return ids;
  };
  ASSIGN_OR_RETURN(const std::vector<TokenId> bos, ids_of("bos_token_id"));
  ASSIGN_OR_RETURN(const std::vector<TokenId> eos, ids_of("eos_token_id"));
  ASSIGN_OR_RETURN(const std::vector<TokenId> pad, ids_of("pad_token_id"));
  if (!spec.bos && !bos.empty()) spec.bos = bos[0];
  if (!spec.eos && !eos.empty()) spec.eos = eos[0];
  if (!spec.pad && !pad.empty()) spec.pad = pad[0];
  for (TokenId id : eos) {
    if (id != spec.eos) spec.extra_eog.push_back(id);
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> TokenizerSpecFromHf(const Json& tokenizer, const Json* tokenizer_config,
                                          const Json* generation_config,
                                          const std::optional<std::string>& chat_template,
                                          const std::string& source) {
  Reader reader(tokenizer, source);
  ASSIGN_OR_RETURN(TokenizerSpec spec, reader.Read());
  if (tokenizer_config != nullptr) RETURN_IF_ERROR(ReadTokenizerConfig(*tokenizer_config, source, spec));
  if (generation_config != nullptr) RETURN_IF_ERROR(ReadGenerationConfig(*generation_config, source, spec));
  if (tokenizer_config != nullptr) {
    // Transformers' classes for Llama, Gemma and Qwen rebuild the post-processor from these.
    spec.add_bos = Flag(*tokenizer_config, "add_bos_token", spec.add_bos) && spec.bos.has_value();
    spec.add_eos = Flag(*tokenizer_config, "add_eos_token", spec.add_eos) && spec.eos.has_value();
  }
  spec.chat_template = chat_template.value_or("");
  return spec;
}

}  // namespace thimble
