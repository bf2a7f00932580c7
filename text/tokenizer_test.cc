// Properties of every tokenizer: what goes in comes out, damaged files and long texts do no harm.
#include "text/tokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include <unistd.h>

#include "base/file.h"
#include "base/random.h"
#include "text/test_support.h"
#include "text/utf8.h"

namespace thimble {
namespace {

Result<Tokenizer> FromHf(const Json& json) {
  ASSIGN_OR_RETURN(TokenizerSpec spec, TokenizerSpecFromHf(json, nullptr, nullptr, std::nullopt, "t"));
  return Tokenizer::Create(std::move(spec));
}

const std::vector<std::pair<std::string, Tokenizer>>& AllTokenizers() {
  static const auto* all = [] {
    auto* out = new std::vector<std::pair<std::string, Tokenizer>>;
    // qwen2.json normalizes: not what went in comes out.
    for (const char* name : {"gpt2", "smollm", "llama3", "gemma", "llama2", "mistral"}) {
      const std::string path = GoldenPath(std::string("tokenizers/hf/") + name + ".json");
      out->emplace_back(name, Unwrap(FromHf(Unwrap(ReadJsonFile(path)))));
    }
    for (const char* name : {"gpt-2", "llama-bpe", "llama-spm", "qwen2"}) {
      const std::string path = SharedPath(std::string("conformance/tokenizers/ggml-vocab-") + name + ".gguf");
      if (std::filesystem::exists(path)) out->emplace_back(name, TokenizerOf(path));
    }
    return out;
  }();
  return *all;
}

// Characters of every kind: letters, digits and spaces of many scripts, marks, and all the rest.
rc::Gen<std::string> AnyText() {
  const auto character = rc::gen::weightedOneOf<uint32_t>({
      {4, rc::gen::inRange<uint32_t>(0x20, 0x7f)},
      {2, rc::gen::element<uint32_t>(' ', ' ', '\n', '\t', '\r', 0xa0, 0x3000, 0x2028, 0x85, 0x180e)},
      {2, rc::gen::inRange<uint32_t>(0x80, 0x800)},
      {2, rc::gen::inRange<uint32_t>(0x800, 0xd800)},
      {1, rc::gen::inRange<uint32_t>(0xe000, 0x110000)},
      {1, rc::gen::inRange<uint32_t>(0, 0x20)},
  });
  return rc::gen::map(rc::gen::container<std::vector<uint32_t>>(character),
                      [](const std::vector<uint32_t>& codes) {
                        std::string text;
                        for (uint32_t code : codes) AppendUtf8(text, code);
                        return text;
                      });
}

// What a text comes back as. SentencePiece can't tell U+2581 from a space, nor an added space from the text's
// own where it adds one only if there is none (Metaspace).
std::string Expected(std::string text, const TokenizerSpec& spec) {
  if (spec.model != TokenizerModel::kSentencePieceBpe) return text;
  for (size_t at; (at = text.find("\xe2\x96\x81")) != std::string::npos;) text.replace(at, 3, " ");
  if (spec.space_prefix == SpacePrefix::kStartUnlessSpace && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

TEST(TokenizerProperties, AnyUnicodeComesBack) {
  for (const auto& [name, tokenizer] : AllTokenizers()) {
    EXPECT_TRUE(rc::check(name, [&tokenizer = tokenizer] {
      const std::string text = *AnyText();
      const std::string back = tokenizer.Decode(tokenizer.Encode(text, false, false));
      RC_ASSERT(back == Expected(text, tokenizer.spec()));
    }));
  }
}

TEST(TokenizerProperties, AnyBytesComeBack) {
  for (const auto& [name, tokenizer] : AllTokenizers()) {
    EXPECT_TRUE(rc::check(name, [&tokenizer = tokenizer] {
      const auto text = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
      const std::string back = tokenizer.Decode(tokenizer.Encode(text, false, false));
      RC_ASSERT(back == Expected(text, tokenizer.spec()));
    }));
  }
}

// Bytes as text: what is no UTF-8 becomes U+FFFD, one for each maximal subpart.
std::string Repaired(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const Utf8Char c = DecodeUtf8(bytes);
    const auto length = static_cast<size_t>(c.length);
    out += c.kind == Utf8Char::kValid ? bytes.substr(0, length) : kReplacementCharacter;
    bytes.remove_prefix(length);
  }
  return out;
}

TEST(TokenizerProperties, StreamingWritesWholeCharacters) {
  for (const auto& [name, tokenizer] : AllTokenizers()) {
    EXPECT_TRUE(rc::check(name, [&tokenizer = tokenizer] {
      // A text's own ids, or any ids at all.
      const auto n = static_cast<TokenId>(tokenizer.vocab_size());
      const std::vector<TokenId> ids = *rc::gen::oneOf(
          rc::gen::map(AnyText(), [&](const std::string& t) { return tokenizer.Encode(t, true, false); }),
          rc::gen::container<std::vector<TokenId>>(rc::gen::inRange<TokenId>(-2, n + 2)));
      StreamingDetokenizer detokenizer(tokenizer);
      std::string all;
      for (TokenId id : ids) {
        const std::string part = detokenizer.Push(id);
        RC_ASSERT(ValidUtf8Length(part) == part.size());
        all += part;
      }
      all += detokenizer.Flush();
      RC_ASSERT(all == Repaired(tokenizer.Decode(ids)));
      RC_ASSERT(detokenizer.Flush() == "");
    }));
  }
}

TEST(TokenizerProperties, ThreadsShareOne) {
  const Tokenizer& tokenizer = AllTokenizers().front().second;
  const std::string text = "The same text, thrice: the same text.";
  const std::vector<TokenId> expected = tokenizer.Encode(text, true, true);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += tokenizer.Encode(text, true, true) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

// A long run without a place to split must not take the square of its length, which would be hours here.
TEST(TokenizerProperties, LongRunsAreNearlyLinear) {
  for (const auto& [name, tokenizer] : AllTokenizers()) {
    for (const std::string unit :
         {"a", " ", "\n", "ab", "한", "<", "9", "\xff", "<|im_start|", "a ", " \n", "'"}) {
      std::string text;
      while (text.size() < 250'000) text += unit;
      const auto start = std::chrono::steady_clock::now();
      const std::vector<TokenId> ids = tokenizer.Encode(text, false, true);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      EXPECT_LT(seconds.count(), 60) << name << ": " << unit;
      EXPECT_EQ(tokenizer.Decode(ids).size(), Expected(text, tokenizer.spec()).size())
          << name << ": " << unit;
    }
  }
}

TEST(Tokenizer, FindsSpecialTokensByRank) {
  const Tokenizer t = Unwrap(FromHf(Unwrap(ReadJsonFile(GoldenPath("tokenizers/hf/gpt2.json")))));
  const TokenId start = *t.Find("<|im_start|>"), h = *t.Find("<h"), h1 = *t.Find("<h1>");
  EXPECT_EQ(t.Encode("<|im_start|>", false, true), std::vector<TokenId>{start});
  EXPECT_GT(t.Encode("<|im_start|>", false, false).size(), 1u);
  // User-defined tokens always count, the longest of those that begin at one place.
  EXPECT_EQ(t.Encode("<h1><h2", false, false).front(), h1);
  EXPECT_EQ(t.Encode("<h1><h2", false, false)[1], h);
  EXPECT_EQ(t.Decode({start, h}), "<h");
  EXPECT_EQ(t.Decode({start, h}, true), "<|im_start|><h");
  EXPECT_EQ(t.TokenBytes(start), "");
  EXPECT_EQ(t.TokenBytes(-1, true), "");
  EXPECT_EQ(t.Find("no such token"), std::nullopt);
}

TEST(Tokenizer, KeepsNulBytes) {
  const std::string text("a\0b\0\0", 5);
  for (const auto& [name, tokenizer] : AllTokenizers()) {
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text, false, false)), text) << name;
  }
}

// The metadata of a small GGUF vocabulary, of either kind.
Metadata SmallGguf(const char* name) {
  Metadata metadata;
  const Json json = Unwrap(ReadJsonFile(GoldenPath(std::string("tokenizers/hf/") + name + ".json")));
  TokenizerSpecToGguf(Unwrap(TokenizerSpecFromHf(json, nullptr, nullptr, "{{ bos_token }}", "t")), metadata);
  return metadata;
}

TEST(GgufTokenizer, ErrorsNameFileAndKey) {
  struct Case {
    const char* key;
    MetadataValue value;
    ErrorCode code;
  };
  using Strings = std::vector<std::string>;
  const Case cases[] = {
      {"tokenizer.ggml.model", MetadataValue(std::string("bert")), ErrorCode::kUnsupported},
      {"tokenizer.ggml.model", MetadataValue(uint32_t{1}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.pre", MetadataValue(std::string("unheard-of")), ErrorCode::kUnsupported},
      {"tokenizer.ggml.tokens", MetadataValue(Strings{}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.tokens", MetadataValue(uint32_t{5}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.token_type", MetadataValue(std::vector<int32_t>{1}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.token_type", MetadataValue(std::vector<int32_t>(705, 9)), ErrorCode::kCorrupt},
      {"tokenizer.ggml.merges", MetadataValue(Strings{"ab"}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.bos_token_id", MetadataValue(uint32_t{705}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.eos_token_id", MetadataValue(int32_t{-1}), ErrorCode::kCorrupt},
      {"tokenizer.ggml.add_bos_token", MetadataValue(std::string("yes")), ErrorCode::kCorrupt},
      {"tokenizer.chat_template", MetadataValue(uint32_t{1}), ErrorCode::kCorrupt},
  };
  for (const Case& c : cases) {
    Metadata metadata = SmallGguf("gpt2");
    metadata.Set(c.key, c.value);
    const auto result = TokenizerSpecFromGguf(metadata, "m.gguf");
    ASSERT_FALSE(result) << c.key;
    EXPECT_EQ(result.error().code, c.code) << result.error().message;
    EXPECT_TRUE(result.error().message.starts_with("m.gguf: ")) << result.error().message;
    EXPECT_NE(result.error().message.find(c.key), std::string::npos) << result.error().message;
  }
  Metadata spm = SmallGguf("llama2");
  spm.Set("tokenizer.ggml.scores", MetadataValue(std::vector<float>{0}));
  EXPECT_NE(TokenizerSpecFromGguf(spm, "m.gguf").error().message.find("tokenizer.ggml.scores"),
            std::string::npos);
  std::vector<float> scores(*SmallGguf("llama2").Floats("tokenizer.ggml.scores"));
  scores[7] = std::numeric_limits<float>::quiet_NaN();
  spm.Set("tokenizer.ggml.scores", MetadataValue(scores));
  EXPECT_NE(TokenizerSpecFromGguf(spm, "m.gguf").error().message.find("entry 7"), std::string::npos);
  EXPECT_EQ(TokenizerSpecFromGguf(Metadata(), "m.gguf").error().code, ErrorCode::kNotFound);
}

TEST(GgufTokenizer, TwiceTheSameTokenIsAnError) {
  Metadata metadata = SmallGguf("gpt2");
  std::vector<std::string> tokens = metadata.Strings("tokenizer.ggml.tokens")->ToVector();
  tokens[20] = tokens[21];
  metadata.Set("tokenizer.ggml.tokens", MetadataValue(tokens));
  const auto tokenizer = Tokenizer::Create(Unwrap(TokenizerSpecFromGguf(metadata, "m.gguf")), "m.gguf");
  ASSERT_FALSE(tokenizer);
  EXPECT_NE(tokenizer.error().message.find("m.gguf: tokens 20 and 21 are both"), std::string::npos);
}

TEST(GgufTokenizer, SpecComesBack) {
  for (const char* name : {"gpt2", "smollm", "llama3", "llama2", "gemma"}) {
    const Metadata metadata = SmallGguf(name);
    const TokenizerSpec spec = Unwrap(TokenizerSpecFromGguf(metadata, "m.gguf"));
    Metadata again;
    TokenizerSpecToGguf(spec, again);
    for (const auto& [key, value] : metadata.entries()) {
      ASSERT_TRUE(again.Has(key)) << name << ": " << key;
      EXPECT_TRUE(again.Find(key)->storage() == value.storage()) << name << ": " << key;
    }
    EXPECT_EQ(spec.chat_template, "{{ bos_token }}");
  }
}

// Real vocabularies to tokenizer.json and back give the same ids (SentencePiece's scores become merges).
TEST(GgufTokenizer, SameIdsThroughTokenizerJson) {
  const Json golden = *ReadJsonFile(GoldenPath("tokenizers/llama_cpp.json"));
  const std::vector<std::string> texts = golden.at("texts");
  bool any = false;
  for (const char* name : {"gpt-2", "llama-bpe", "llama-spm", "qwen2"}) {
    const std::string path = SharedPath(std::string("conformance/tokenizers/ggml-vocab-") + name + ".gguf");
    if (!std::filesystem::exists(path)) continue;
    any = true;
    const Tokenizer direct = TokenizerOf(path);
    const HfTokenizerFiles files = TokenizerSpecToHf(direct.spec());
    const TokenizerSpec spec =
        Unwrap(TokenizerSpecFromHf(files.tokenizer, &files.tokenizer_config, nullptr, std::nullopt, path));
    Metadata metadata;
    TokenizerSpecToGguf(spec, metadata);
    EXPECT_EQ(metadata.Has("tokenizer.ggml.merges"), spec.model == TokenizerModel::kByteBpe);
    const Tokenizer hf = Unwrap(Tokenizer::Create(spec));
    const Tokenizer back = Unwrap(Tokenizer::Create(Unwrap(TokenizerSpecFromGguf(metadata, path))));
    for (const std::string& text : texts) {
      const std::vector<TokenId> ids = direct.Encode(text, true, true);
      EXPECT_EQ(hf.Encode(text, true, true), ids) << name << ": " << text;
      EXPECT_EQ(back.Encode(text, true, true), ids) << name << ": " << text;
    }
  }
  if (!any) GTEST_SKIP() << "../shared/conformance/tokenizers is absent";
}

// Each change of one byte gives an error or a tokenizer that works, whatever it then says.
TEST(DamagedTokenizer, JsonDoesNoHarm) {
  for (const char* name : {"llama3", "gemma"}) {
    const std::string whole = Unwrap(ReadFile(GoldenPath(std::string("tokenizers/hf/") + name + ".json")));
    Random random(1);
    int loaded = 0;
    for (int i = 0; i < 5000; ++i) {
      std::string damaged = whole;
      damaged[random.Below(whole.size())] = static_cast<char>(random.Below(256));
      const auto json = ParseJson(damaged, "t/tokenizer.json");
      const auto tokenizer = json ? FromHf(*json) : tl::unexpected(json.error());
      if (tokenizer) {
        ++loaded;
        tokenizer->Decode(tokenizer->Encode("Hello <|im_start|> wörld 123\n", true, true), true);
      } else {
        EXPECT_GT(tokenizer.error().message.size(), 10u);
      }
    }
    EXPECT_GT(loaded, 100);
    EXPECT_LT(loaded, 4900);
  }
}

TEST(DamagedTokenizer, GgufDoesNoHarm) {
  for (const char* name : {"llama3", "llama2"}) {
    const std::string path =
        ::testing::TempDir() + "damaged-" + std::to_string(::getpid()) + "-" + name + ".gguf";
    Metadata metadata = SmallGguf(name);
    metadata.Set("general.architecture", MetadataValue(std::string("llama")));
    ASSERT_TRUE(Unwrap(GgufWriter::Create(path, metadata, {})).Finish());
    const std::string whole = Unwrap(ReadFile(path));
    Random random(1);
    int loaded = 0;
    for (int i = 0; i < 5000; ++i) {
      std::string damaged = whole;
      damaged[random.Below(whole.size())] = static_cast<char>(random.Below(256));
      std::ofstream(path, std::ios::binary | std::ios::trunc) << damaged;
      const auto file = ReadGguf(path);
      if (!file) continue;
      const auto spec = TokenizerSpecFromGguf(file->metadata, path);
      const auto tokenizer = spec ? Tokenizer::Create(*spec, path) : tl::unexpected(spec.error());
      if (tokenizer) {
        ++loaded;
        tokenizer->Decode(tokenizer->Encode("Hello <|im_start|> wörld 123\n", true, true), true);
      } else {
        EXPECT_TRUE(tokenizer.error().message.starts_with(path)) << tokenizer.error().message;
      }
    }
    EXPECT_GT(loaded, 100);
    std::filesystem::remove(path);
  }
}

}  // namespace
}  // namespace thimble
