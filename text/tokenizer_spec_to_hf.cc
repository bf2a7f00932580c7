// TokenizerSpec to Hugging Face's tokenizer.json and tokenizer_config.json.
#include "text/byte_alphabet.h"
#include "text/pre_tokenizer.h"
#include "text/spm_scores.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

Json ByteLevel(bool use_regex) {
  return {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json BytePreTokenizer(PreTokenizer pre) {
  const auto sequence = [](Json first, bool use_regex) -> Json {
    return {{"type", "Sequence"}, {"pretokenizers", Json::array({std::move(first), ByteLevel(use_regex)})}};
  };
  const auto split = [](Json pattern) -> Json {
    return {{"type", "Split"}, {"pattern", std::move(pattern)}, {"behavior", "Isolated"}, {"invert", false}};
  };
  switch (pre) {
    case PreTokenizer::kSmolLm:
      return sequence({{"type", "Digits"}, {"individual_digits", true}}, true);
    case PreTokenizer::kLlama3:
    case PreTokenizer::kQwen2:
      return sequence(split({{"Regex", HfSplitExpression(pre)}}), false);
    case PreTokenizer::kGpt2:
    case PreTokenizer::kDefault:  // llama.cpp's guess for old files: nearest to what such a model was trained
                                  // with
    case PreTokenizer::kNone:
      break;
  }
  return ByteLevel(true);
}

Json Replace(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

void WriteSentencePieceSteps(const TokenizerSpec& spec, Json& out) {
  const auto metaspace = [](const char* scheme) -> Json {
    return {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", false}};
  };
  Json decoders = Json::array({Replace("▁", " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  switch (spec.space_prefix) {
    case SpacePrefix::kNone:
      out["normalizer"] = Replace(" ", "▁");
      break;
    case SpacePrefix::kEveryText:
      out["normalizer"] = {
          {"type", "Sequence"},
          {"normalizers", Json::array({{{"type", "Prepend"}, {"prepend", "▁"}}, Replace(" ", "▁")})}};
      break;
    case SpacePrefix::kEveryTextUnlessSpace:
      out["pre_tokenizer"] = metaspace("always");
      break;
    case SpacePrefix::kStartUnlessSpace:
      out["pre_tokenizer"] = metaspace("first");
      break;
  }
  if (spec.space_prefix != SpacePrefix::kNone) {
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  out["decoder"] = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
}

// What goes before and behind one text; null for nothing.
Json PostProcessor(const TokenizerSpec& spec) {
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto put = [&](bool wanted, const std::optional<TokenId>& id, int type_id) {
    if (!wanted || !id) return;
    const std::string& token = spec.tokens[static_cast<size_t>(*id)];
    const Json part = {{"SpecialToken", {{"id", token}, {"type_id", type_id}}}};
    if (type_id == 0) single.push_back(part);
    pair.push_back(part);
    tokens[token] = {{"id", token}, {"ids", {*id}}, {"tokens", {token}}};
  };
  const auto text = [](const char* id, int type_id) -> Json {
    return {{"Sequence", {{"id", id}, {"type_id", type_id}}}};
  };
  for (int type_id : {0, 1}) {
    put(spec.add_bos, spec.bos, type_id);
    if (type_id == 0) single.push_back(text("A", 0));
    pair.push_back(text(type_id == 0 ? "A" : "B", type_id));
    put(spec.add_eos, spec.eos, type_id);
  }
  if (tokens.empty()) return nullptr;
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json AddedTokens(const TokenizerSpec& spec) {
  Json added = Json::array();
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const TokenType type = spec.types[i];
    const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
    if (!special && type != TokenType::kUserDefined) continue;
    const auto id = static_cast<TokenId>(i);
    const auto has = [id](const std::vector<TokenId>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    added.push_back({{"id", id},
                     {"content", spec.tokens[i]},
                     {"single_word", false},
                     {"lstrip", has(spec.lstrip)},
                     {"rstrip", has(spec.rstrip)},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

Json BpeModel(const TokenizerSpec& spec) {
  const bool spm = spec.model == TokenizerModel::kSentencePieceBpe;
  // Appended without a search: Json's objects are lists.
  Json::object_t vocab;
  vocab.reserve(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) vocab.emplace_back(spec.tokens[i], static_cast<TokenId>(i));
  Json merges = Json::array();
  for (const auto& [left, right] : spm&& spec.merges.empty() ? MergesFromScores(spec) : spec.merges) {
    merges.push_back(Json::array({left, right}));
  }
  const bool has_unknown = spm && spec.unk.has_value();
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", has_unknown ? Json(spec.tokens[static_cast<size_t>(*spec.unk)]) : Json(nullptr)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spm},
          {"byte_fallback", spm},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

HfTokenizerFiles TokenizerSpecToHf(const TokenizerSpec& spec) {
  HfTokenizerFiles out;
  Json& tokenizer = out.tokenizer;
  tokenizer = {{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", AddedTokens(spec)},
               {"normalizer", nullptr},
               {"pre_tokenizer", nullptr},
               {"post_processor", PostProcessor(spec)},
               {"decoder", nullptr},
               {"model", nullptr}};
  if (spec.model == TokenizerModel::kSentencePieceBpe) {
    WriteSentencePieceSteps(spec, tokenizer);
  } else {
    if (spec.normalize_nfc) tokenizer["normalizer"] = {{"type", "NFC"}};
    tokenizer["pre_tokenizer"] = BytePreTokenizer(spec.pre);
    tokenizer["decoder"] = ByteLevel(true);
  }
  tokenizer["model"] = BpeModel(spec);

  Json& config = out.tokenizer_config;
  config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
            {"clean_up_tokenization_spaces", false},
            {"add_bos_token", spec.add_bos},
            {"add_eos_token", spec.add_eos}};
  const std::pair<const char*, const std::optional<TokenId>*> kTokens[] = {
      {"bos_token", &spec.bos}, {"eos_token", &spec.eos}, {"unk_token", &spec.unk}, {"pad_token", &spec.pad}};
  for (const auto& [key, id] : kTokens) {
    if (*id) config[key] = spec.tokens[static_cast<size_t>(**id)];
  }
  if (!spec.chat_template.empty()) config["chat_template"] = spec.chat_template;
  return out;
}

}  // namespace thimble
