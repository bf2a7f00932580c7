#include "quant/calibration_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "formats/model_file.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kModels = THIMBLE_SOURCE_DIR "/tests/golden/models/";

TextPart Parse(std::string_view content) {
  auto part = ParseTextPart("name", content);
  EXPECT_TRUE(part) << part.error().message;
  return part ? std::move(*part) : TextPart();
}

TEST(ParseTextPart, MarkedDocuments) {
  const TextPart part = Parse("one\ntwo\n---\n\n---\nthree --- \n ---\n---\nfour");
  EXPECT_EQ(part.name, "name");
  EXPECT_FALSE(part.chat);
  EXPECT_THAT(part.documents, ElementsAre("one\ntwo\n", "three --- \n ---\n", "four"));
  EXPECT_THAT(Parse("one\r\n---\r\ntwo\r\n").documents, ElementsAre("one\r\n", "two\r\n"));
  EXPECT_THAT(Parse("---\none\n---").documents, ElementsAre("one\n"));
}

TEST(ParseTextPart, UnmarkedTextIsCutAtLines) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "line " + std::to_string(i) + " of a text\n";
  text += "and an end";
  const TextPart part = Parse(text);
  ASSERT_EQ(part.documents.size(), (text.size() + 4095) / 4096);
  std::string again;
  for (size_t i = 0; i < part.documents.size(); ++i) {
    again += part.documents[i];
    if (i + 1 == part.documents.size()) continue;
    EXPECT_EQ(part.documents[i].back(), '\n');
    EXPECT_GE(part.documents[i].size(), 4096u);
    EXPECT_LT(part.documents[i].size(), 4096u + 30);
  }
  EXPECT_EQ(again, text);
  EXPECT_EQ(Parse("a --- b\n").documents.size(), 1u);
}

TEST(ParseTextPart, Conversations) {
  const std::string one = R"({"messages": [{"role": "user", "content": "a"}], "id": 1})";
  const TextPart part = Parse(one + "\n\n" + one + "\n");
  EXPECT_TRUE(part.chat);
  EXPECT_EQ(part.documents.size(), 2u);
  for (const char* bad :
       {"plain", R"({"messages": [{"role": "user"}]})", R"({"messages": [{"role": 1, "content": "a"}]})",
        R"({"messages": "a"})", "[]", "{"}) {
    const auto wrong = ParseTextPart("talks", one + "\n\n" + bad + "\n");
    ASSERT_FALSE(wrong) << bad;
    EXPECT_THAT(wrong.error().message, HasSubstr("talks: line 3"));
    EXPECT_FALSE(Parse(std::string(bad) + "\n" + one).chat) << bad;  // then it is text
  }
}

TEST(ParseTextPart, NoTextIsAnError) {
  for (const char* empty : {"", "\n \n", "---\n---\n"}) {
    const auto part = ParseTextPart("empty.txt", empty);
    ASSERT_FALSE(part);
    EXPECT_THAT(part.error().message, HasSubstr("empty.txt"));
  }
}

TEST(Deal, GivesEachDocumentToOnePurpose) {
  for (size_t n = 1; n <= 45; ++n) {
    SCOPED_TRACE(n);
    TextPart part{"p", {}, n % 2 == 0};
    std::multiset<std::string> all;
    for (size_t i = 0; i < n; ++i) {
      part.documents.push_back(std::to_string(i));
      all.insert(part.documents.back());
    }
    std::multiset<std::string> dealt;
    std::vector<size_t> sizes;
    for (const TextPurpose purpose :
         {TextPurpose::kCalibration, TextPurpose::kSelection, TextPurpose::kScoring}) {
      const TextPart share = Deal(part, purpose);
      EXPECT_EQ(share.name, "p");
      EXPECT_EQ(share.chat, part.chat);
      sizes.push_back(share.documents.size());
      dealt.insert(share.documents.begin(), share.documents.end());
    }
    EXPECT_EQ(dealt, all);  // nothing twice, nothing left
    EXPECT_GE(sizes[0], 1u);
    EXPECT_EQ(sizes[2], n < 2 ? 0 : std::max<size_t>(1, n / 10));
    EXPECT_EQ(sizes[1], n < 3 ? 0 : std::max<size_t>(1, (n + 1) / 10));
  }
}

struct ModelText {
  explicit ModelText(bool add_bos = false) : file(OpenModelFile(kModels + "llama").value()) {
    tokenizer = LoadTokenizer(file).value();
    chat_template = LoadChatTemplate(*tokenizer).value();
    TokenizerSpec spec = tokenizer->spec();
    spec.add_bos = add_bos;
    tokenizer = Tokenizer::Create(spec).value();
  }
  std::vector<std::vector<TokenId>> Cut(const TextPart& part, int64_t n_ctx,
                                        bool with_template = true) const {
    return Windows(part, *tokenizer, with_template ? &*chat_template : nullptr, n_ctx).value();
  }
  ModelFile file;
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
};

TEST(Windows, CutDocumentsOneAfterAnother) {
  for (const bool bos : {false, true}) {
    SCOPED_TRACE(bos);
    const ModelText model(bos);
    const TextPart part{"p", {"one two three four", " and five six", " seven."}};
    std::vector<TokenId> all;
    for (const std::string& document : part.documents) {
      const auto tokens = model.tokenizer->Encode(document, false, false);
      all.insert(all.end(), tokens.begin(), tokens.end());
    }
    for (const size_t n_ctx : {all.size(), size_t{16}, size_t{10}, size_t{7}}) {
      const auto windows = model.Cut(part, static_cast<int64_t>(n_ctx));
      size_t at = 0;
      for (const auto& window : windows) {
        if (&window != &windows.back()) {
          EXPECT_EQ(window.size(), n_ctx);
        }
        for (size_t i = 0; i < window.size(); ++i) {
          EXPECT_EQ(window[i], i == 0 && bos ? *model.tokenizer->spec().bos : all[at + i]);
        }
        at += window.size();
      }
      EXPECT_LT(all.size() - at, std::max<size_t>(n_ctx / 8, 2));
    }
  }
}

TEST(Windows, LeftoversUnderAnEighthAreDropped) {
  const ModelText model;
  const std::string text(100, '!');
  const size_t n = model.tokenizer->Encode(text, false, false).size();
  ASSERT_EQ(n, 100u);
  EXPECT_THAT(model.Cut({"p", {text}}, 48), ElementsAre(testing::SizeIs(48), testing::SizeIs(48)));
  EXPECT_THAT(model.Cut({"p", {text}}, 32),
              ElementsAre(testing::SizeIs(32), testing::SizeIs(32), testing::SizeIs(32), testing::SizeIs(4)));
  EXPECT_TRUE(model.Cut({"p", {"!"}}, 512).empty());
}

TEST(Windows, ConversationsGoThroughTheTemplate) {
  const ModelText model;
  const std::string talk =
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]})";
  const TextPart part{"p", {talk, talk}, true};
  const auto messages = ParseJson(talk, "talk").value()["messages"];
  const TokenizerSpec& spec = model.tokenizer->spec();
  ChatTemplateInputs inputs{.messages = messages};
  if (spec.bos) inputs.bos_token = spec.tokens[static_cast<size_t>(*spec.bos)];
  if (spec.eos) inputs.eos_token = spec.tokens[static_cast<size_t>(*spec.eos)];
  const std::string text = model.chat_template->Render(inputs).value();
  EXPECT_THAT(text, HasSubstr("Hi"));
  auto expected = model.tokenizer->Encode(text, false, true);
  const size_t once = expected.size();
  for (size_t i = 0; i < once; ++i) expected.push_back(expected[i]);
  const auto windows = model.Cut(part, static_cast<int64_t>(expected.size()));
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_EQ(windows[0], expected);
  const auto plain = model.Cut({"p", {talk}, true}, 6, false);
  ASSERT_FALSE(plain.empty());
  EXPECT_EQ(model.tokenizer->Decode(plain[0]), "Hi\nHo\n");
}

TEST(TakeEvenly, GoesRoundTheParts) {
  const auto window = [](TokenId id, size_t n) { return std::vector<TokenId>(n, id); };
  const std::vector<std::vector<std::vector<TokenId>>> parts = {
      {window(1, 10), window(2, 10), window(3, 10), window(4, 10)}, {window(5, 10), window(6, 3)}, {}};
  const auto ids = [&](int64_t max_tokens) {
    std::vector<TokenId> firsts;
    size_t tokens = 0;
    for (const auto& taken : TakeEvenly(parts, max_tokens)) {
      firsts.push_back(taken[0]);
      tokens += taken.size();
    }
    EXPECT_LE(static_cast<int64_t>(tokens), max_tokens);
    return firsts;
  };
  EXPECT_THAT(ids(1000), ElementsAre(1, 5, 2, 6, 3, 4));
  EXPECT_THAT(ids(33), ElementsAre(1, 5, 2, 6));
  EXPECT_THAT(ids(25), ElementsAre(1, 5, 6));
  EXPECT_THAT(ids(20), ElementsAre(1, 5));
  EXPECT_THAT(ids(9), ElementsAre(1, 5));  // four of each
  EXPECT_TRUE(TakeEvenly(parts, 3).empty());
  EXPECT_TRUE(TakeEvenly({}, 100).empty());
}

// As users get them: languages in their scripts, several documents for each purpose, and chats.
TEST(DefaultTexts, HaveEveryLanguage) {
  const auto texts = DefaultTexts();
  ASSERT_TRUE(texts) << texts.error().message;
  std::set<std::string> names, seen;
  for (const TextPart& part : *texts) {
    EXPECT_TRUE(names.insert(part.name).second);
    EXPECT_GE(part.documents.size(), 20u) << part.name;
    EXPECT_EQ(part.chat, part.name.starts_with("chat")) << part.name;
    for (const std::string& document : part.documents) {
      EXPECT_TRUE(seen.insert(document).second) << part.name << ": twice\n" << document;
    }
    for (const TextPurpose purpose : {TextPurpose::kSelection, TextPurpose::kScoring}) {
      EXPECT_GE(Deal(part, purpose).documents.size(), 2u) << part.name;
    }
  }
  EXPECT_EQ(names,
            (std::set<std::string>{"en", "de", "fr", "ko", "ja", "zh", "code", "chat", "chat, other"}));
  const auto contains = [&](const std::string& name, const char* words) {
    const auto part = std::ranges::find(*texts, name, &TextPart::name);
    return std::ranges::any_of(part->documents,
                               [&](const std::string& d) { return d.find(words) != std::string::npos; });
  };
  EXPECT_TRUE(contains("ko", "\xeb\x8a\x94"));  // 는
  EXPECT_TRUE(contains("ja", "\xe3\x81\xae"));  // の
  EXPECT_TRUE(contains("zh", "\xe7\x9a\x84"));  // 的
  EXPECT_TRUE(contains("de", "\xc3\xbc"));      // ü
  EXPECT_TRUE(contains("fr", "\xc3\xa9"));      // é
  EXPECT_TRUE(contains("en", " the "));
}

}  // namespace
}  // namespace thimble
