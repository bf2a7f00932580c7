// Ids that other programs give: llama.cpp's own cases, and those of the reference model.
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "formats/gguf.h"
#include "text/test_support.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

// ../shared/conformance/README.md: cases between lines "__ggml_vocab_test__", a line of ids for each.
class LlamaCppCases : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaCppCases, AreExact) {
  const std::string path =
      SharedPath(std::string("conformance/tokenizers/ggml-vocab-") + GetParam() + ".gguf");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const Tokenizer tokenizer = TokenizerOf(path);
  const std::string input = *ReadFile(path + ".inp"), output = *ReadFile(path + ".out");
  std::vector<std::string> texts;
  const std::string separator = "\n__ggml_vocab_test__\n";
  for (size_t begin = 0;;) {
    const size_t end = input.find(separator, begin);
    texts.push_back(input.substr(begin, end - begin));
    if (end == std::string::npos) break;
    begin = end + separator.size();
  }
  std::istringstream lines(output);
  std::string line;
  size_t i = 0;
  for (; std::getline(lines, line); ++i) {
    std::istringstream numbers(line);
    std::vector<TokenId> expected{std::istream_iterator<TokenId>(numbers), {}};
    ASSERT_LT(i, texts.size());
    EXPECT_EQ(tokenizer.Encode(texts[i], false, false), expected) << "case " << i << ": " << texts[i];
  }
  EXPECT_GE(i, 40u);
  EXPECT_LE(texts.size() - i, 1u);  // what follows the last separator
}

INSTANTIATE_TEST_SUITE_P(, LlamaCppCases, ::testing::Values("gpt-2", "llama-bpe", "llama-spm", "qwen2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(ReferenceTokenizer, SmolLm2Cases) {
  const std::string model = ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf"),
                    golden = SharedPath("golden/golden.json");
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is absent: tools/fetch_model.py smollm2";
  if (!std::filesystem::exists(golden)) GTEST_SKIP() << golden << " is absent";
  const Tokenizer tokenizer = TokenizerOf(model);
  const Json cases = ReadJsonFile(golden)->at("tokenizer_cases");
  ASSERT_EQ(cases.size(), 10u);
  for (const Json& item : cases) {
    const auto text = item.at("text").get<std::string>();
    const std::vector<TokenId> ids = tokenizer.Encode(text, true, true);
    EXPECT_EQ(ids, item.at("ids").get<std::vector<TokenId>>()) << text;
    EXPECT_EQ(tokenizer.Decode(ids, true), item.at("decoded").get<std::string>());
  }
}

// tests/golden/tokenizers/llama_cpp.json, by tools/make_tokenizer_goldens.py: ids by llama.cpp with and
// without parse_special, BOS and EOS as the model asks.
TEST(ReferenceTokenizer, LlamaCppOnRealModels) {
  const Json golden = *ReadJsonFile(GoldenPath("tokenizers/llama_cpp.json"));
  const std::vector<std::string> texts = golden.at("texts");
  bool any = false;
  for (const auto& [file, modes] : golden.at("models").items()) {
    const std::string path =
        file.starts_with("ggml-vocab") ? SharedPath("conformance/tokenizers/" + file) : ModelPath(file);
    if (!std::filesystem::exists(path)) continue;
    any = true;
    const Tokenizer tokenizer = TokenizerOf(path);
    for (const bool parse_special : {false, true}) {
      const Json& expected = modes.at(parse_special ? "special" : "plain");
      ASSERT_EQ(expected.size(), texts.size());
      for (size_t i = 0; i < texts.size(); ++i) {
        EXPECT_EQ(tokenizer.Encode(texts[i], true, parse_special), expected[i].get<std::vector<TokenId>>())
            << file << (parse_special ? ", special: " : ": ") << texts[i];
      }
    }
  }
  if (!any) GTEST_SKIP() << "no model of the golden file is there: tools/fetch_model.py smollm2 gemma";
}

}  // namespace
}  // namespace thimble
