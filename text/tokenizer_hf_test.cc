// tokenizer.json against Hugging Face's tokenizers, and its errors.
#include <gtest/gtest.h>

#include "base/file.h"
#include "formats/hf_directory.h"
#include "text/test_support.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

Result<Tokenizer> FromJson(const Json& json, const Json* config = nullptr, const Json* generation = nullptr) {
  ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromHf(json, config, generation, std::nullopt, "folder"));
  return Tokenizer::Create(std::move(spec), "folder");
}

Json HfFile(const std::string& name) {
  return Unwrap(ReadJsonFile(GoldenPath("tokenizers/hf/" + name + ".json")));
}

// Each case as tokenizers gives it, from the file as it is and after ways through our own formats.
TEST(HfTokenizer, EqualsTokenizers) {
  const Json golden = *ReadJsonFile(GoldenPath("tokenizers/hf.json"));
  const std::vector<std::string> texts = golden.at("texts");
  for (const auto& [name, cases] : golden.at("tokenizers").items()) {
    SCOPED_TRACE(name);
    const Tokenizer direct = Unwrap(FromJson(Unwrap(ReadJsonFile(GoldenPath(name)))));
    const HfTokenizerFiles written = TokenizerSpecToHf(direct.spec());
    const Tokenizer through_hf = Unwrap(FromJson(written.tokenizer, &written.tokenizer_config));
    Metadata metadata;
    TokenizerSpecToGguf(direct.spec(), metadata);
    const Tokenizer through_gguf =
        Unwrap(Tokenizer::Create(Unwrap(TokenizerSpecFromGguf(metadata, "m.gguf"))));
    // What GGUF can't say: white space that added tokens swallow, normalization, and Metaspace's scheme.
    const bool gguf_can = direct.spec().lstrip.empty() && !direct.spec().normalize_nfc &&
                          direct.spec().space_prefix != SpacePrefix::kStartUnlessSpace;
    ASSERT_EQ(cases.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::vector<TokenId> expected = cases[i].at("ids");
      EXPECT_EQ(direct.Encode(texts[i], true, true), expected) << texts[i];
      EXPECT_EQ(through_hf.Encode(texts[i], true, true), expected) << texts[i];
      if (gguf_can) {
        EXPECT_EQ(through_gguf.Encode(texts[i], true, true), expected) << texts[i];
      }
      // Bytes that make no character are kept here; tokenizers writes U+FFFD.
      if (cases[i].at("decoded").get<std::string>().find("\xef\xbf\xbd") == std::string::npos) {
        EXPECT_EQ(direct.Decode(expected), cases[i].at("decoded").get<std::string>()) << texts[i];
      }
    }
  }
}

TEST(HfTokenizer, ConfigNamesTheSpecialTokens) {
  const Json config = Json::parse(R"({"bos_token": {"content": "<s>"}, "eos_token": "<|im_end|>",
                                      "pad_token": "</s>", "add_bos_token": true})");
  const Json generation = Json::parse(R"({"eos_token_id": [4, 1]})");
  const Tokenizer tokenizer = Unwrap(FromJson(HfFile("smollm"), &config, &generation));
  EXPECT_EQ(tokenizer.spec().bos, 0);
  EXPECT_EQ(tokenizer.spec().eos, 4);
  EXPECT_EQ(tokenizer.spec().pad, 1);
  EXPECT_EQ(tokenizer.spec().extra_eog, std::vector<TokenId>{1});
  EXPECT_TRUE(tokenizer.IsEndOfGeneration(4));
  EXPECT_TRUE(tokenizer.IsEndOfGeneration(1));
  EXPECT_FALSE(tokenizer.IsEndOfGeneration(3));
  EXPECT_FALSE(tokenizer.IsEndOfGeneration(-1));
  EXPECT_FALSE(tokenizer.IsEndOfGeneration(1 << 20));
  EXPECT_EQ(tokenizer.Encode("", true, true), std::vector<TokenId>{0});
  EXPECT_EQ(tokenizer.Encode("<s>", false, true), std::vector<TokenId>{0});
  EXPECT_GT(tokenizer.Encode("<s>", false, false).size(), 1u);
}

TEST(HfTokenizer, FillsIdsWithoutAToken) {
  Json json = HfFile("smollm");
  const auto n = json["model"]["vocab"].size();
  json["added_tokens"].push_back({{"id", n + 3}, {"content", "<late>"}, {"special", false}});
  const Tokenizer tokenizer = Unwrap(FromJson(json));
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<int64_t>(n + 4));
  EXPECT_EQ(tokenizer.Encode("<late>", false, false), std::vector<TokenId>{static_cast<TokenId>(n + 3)});
  EXPECT_EQ(tokenizer.TokenBytes(static_cast<TokenId>(n + 1), true), "");
}

// Every damage by a person's hand gets an error that names the field.
TEST(HfTokenizer, ErrorsNameFileAndField) {
  struct Case {
    const char *pointer, *value;
    ErrorCode code;
    const char* says;
  };
  const Case cases[] = {
      {"/model/type", R"("Unigram")", ErrorCode::kUnsupported,
       "model.type: only BPE is supported, not \"Unigram\""},
      {"/model/type", R"("WordPiece")", ErrorCode::kUnsupported, "model.type"},
      {"/model", "[]", ErrorCode::kCorrupt, "model"},
      {"/model/vocab", "[]", ErrorCode::kCorrupt, "model.vocab"},
      {"/model/vocab", R"({"a": -1})", ErrorCode::kCorrupt, "model.vocab"},
      {"/model/vocab", R"({"a": 4000000000})", ErrorCode::kCorrupt, "model.vocab"},
      {"/model/vocab", R"({"a": 9, "b": 9})", ErrorCode::kCorrupt, "id 9 is both \"a\" and \"b\""},
      {"/model/merges", "{}", ErrorCode::kCorrupt, "model.merges"},
      {"/model/merges/3", R"("one")", ErrorCode::kCorrupt, "model.merges[3]"},
      {"/model/merges/3", R"(["q", "unheard"])", ErrorCode::kCorrupt, "merge 3"},
      {"/model/end_of_word_suffix", R"("</w>")", ErrorCode::kUnsupported, "model.end_of_word_suffix"},
      {"/added_tokens", "5", ErrorCode::kCorrupt, "added_tokens"},
      {"/added_tokens/1", R"({"id": 1})", ErrorCode::kCorrupt, "added_tokens[1]"},
      {"/added_tokens/1/single_word", "true", ErrorCode::kUnsupported, "added_tokens, id 1"},
      {"/normalizer", R"({"type": "Lowercase"})", ErrorCode::kUnsupported, "normalizer"},
      {"/pre_tokenizer", R"({"type": "Whitespace"})", ErrorCode::kUnsupported, "pre_tokenizer"},
      {"/pre_tokenizer", "null", ErrorCode::kUnsupported, "pre_tokenizer"},
      {"/pre_tokenizer/pretokenizers/0/individual_digits", "false", ErrorCode::kUnsupported, "pre_tokenizer"},
      {"/post_processor", R"({"type": "BertProcessing"})", ErrorCode::kUnsupported, "post_processor"},
  };
  for (const Case& c : cases) {
    Json json = HfFile("smollm");
    json[Json::json_pointer(c.pointer)] = Json::parse(c.value);
    const auto result = FromJson(json);
    ASSERT_FALSE(result) << c.pointer << " = " << c.value;
    EXPECT_EQ(result.error().code, c.code) << result.error().message;
    EXPECT_NE(result.error().message.find("folder"), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find(c.says), std::string::npos) << result.error().message;
  }
  const Json bad_token = Json::parse(R"({"eos_token": "nobody"})"),
             bad_id = Json::parse(R"({"eos_token_id": 70000})");
  EXPECT_NE(FromJson(HfFile("smollm"), &bad_token).error().message.find("tokenizer_config.json: eos_token"),
            std::string::npos);
  EXPECT_NE(FromJson(HfFile("smollm"), nullptr, &bad_id)
                .error()
                .message.find("generation_config.json: eos_token_id"),
            std::string::npos);
}

}  // namespace
}  // namespace thimble
