#include "train/dataset.h"

#include <gmock/gmock.h>

#include <fstream>
#include <set>

#include "model/test_support.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using testing::HasSubstr;

// The tiny byte-level tokenizer of the golden models: <s> is BOS, </s> is EOS, neither is added by itself.
class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto file = OpenModelFile(kModelsDirectory + "llama");
    ASSERT_TRUE(file) << file.error().message;
    auto tokenizer = LoadTokenizer(*file);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = std::move(*tokenizer);
    chat_template_ = std::move(*LoadChatTemplate(*tokenizer_));
  }

  std::string Write(const std::string& lines) const {
    const std::string path = folder_ / "data.jsonl";
    std::ofstream(path) << lines;
    return path;
  }
  Result<Dataset> Load(const std::string& lines, int64_t max_seq_length = 512) const {
    return LoadDataset(Write(lines), *tokenizer_, chat_template_ ? &*chat_template_ : nullptr,
                       {.max_seq_length = max_seq_length});
  }
  Dataset LoadOrDie(const std::string& lines, int64_t max_seq_length = 512) const {
    auto data = Load(lines, max_seq_length);
    EXPECT_TRUE(data) << data.error().message;
    return data ? std::move(*data) : Dataset{};
  }
  std::string Error(const std::string& lines) const {
    const auto data = Load(lines);
    return data ? "accepted" : data.error().message;
  }
  void UseTemplate(const std::string& source) {
    auto parsed = ChatTemplate::Parse(source);
    ASSERT_TRUE(parsed) << parsed.error().message;
    chat_template_ = std::move(*parsed);
  }

  // What the example learns, read as text: the labels. Each label must be the next token.
  std::string Learned(const Example& example) const {
    std::vector<TokenId> learned;
    for (size_t i = 0; i < example.labels.size(); ++i) {
      if (example.labels[i] < 0) continue;
      EXPECT_LT(i + 1, example.tokens.size());
      EXPECT_EQ(example.labels[i], example.tokens[i + 1]);
      learned.push_back(example.labels[i]);
    }
    return tokenizer_->Decode(learned, true);
  }
  std::string All(const Example& example) const { return tokenizer_->Decode(example.tokens, true); }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
};

TEST_F(DatasetTest, TextIsLearnedToItsEnd) {
  const Dataset data = LoadOrDie("{\"text\": \"the thread <s>\"}\n\n{\"text\": \"torch\"}");
  ASSERT_EQ(data.examples.size(), 2u);
  EXPECT_EQ(All(data.examples[0]), "the thread <s></s>");
  EXPECT_EQ(Learned(data.examples[0]),
            All(data.examples[0]).substr(tokenizer_->TokenBytes(data.examples[0].tokens[0]).size()));
  EXPECT_NE(data.examples[0].tokens[data.examples[0].tokens.size() - 2], 0)
      << "a control token written in a text is only text";
  EXPECT_EQ(data.n_tokens,
            static_cast<int64_t>(data.examples[0].tokens.size() + data.examples[1].tokens.size()));
  EXPECT_EQ(data.n_labels, data.n_tokens - 2);
}

TEST_F(DatasetTest, OnlyTheCompletionIsLearned) {
  const Dataset data = LoadOrDie(R"({"prompt": "torch on", "completion": " please"})");
  EXPECT_EQ(All(data.examples[0]), "torch on please</s>");
  EXPECT_EQ(Learned(data.examples[0]), " please</s>");
  // As at run time, the prompt's tokens do not depend on what follows.
  const auto prompt = tokenizer_->Encode("torch on", true, false);
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), data.examples[0].tokens.begin()));
}

constexpr const char* kChat =
    R"({"messages": [{"role": "system", "content": "Sew."}, {"role": "user", "content": "Hi"}, )"
    R"({"role": "assistant", "content": "Hello"}, {"role": "user", "content": "On"}, )"
    R"({"role": "assistant", "content": "Done"}, {"role": "user", "content": "Bye"}]})";

TEST_F(DatasetTest, OnlyAssistantTurnsAreLearned) {
  const Dataset data = LoadOrDie(kChat);
  ASSERT_EQ(data.examples.size(), 1u);
  // The end of a turn is learned, the line break behind it is not; nor is the question without an answer.
  EXPECT_EQ(All(data.examples[0]),
            "<s>system\nSew.</s>\n<s>user\nHi</s>\n<s>assistant\nHello</s>\n<s>user\nOn</"
            "s>\n<s>assistant\nDone</s>\n");
  EXPECT_EQ(Learned(data.examples[0]), "Hello</s>Done</s>");
  EXPECT_EQ(data.examples[0].tokens[0], *tokenizer_->spec().bos);
}

// Qwen3's way: reasoning stays in the last turn only.
TEST_F(DatasetTest, ATemplateThatRewritesEarlierTurns) {
  UseTemplate(
      "{% for m in messages %}<s>{{ m.role }}\n"
      "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}</s>\n{% endfor "
      "%}"
      "{% if add_generation_prompt %}<s>assistant\n{% endif %}");
  const Dataset data = LoadOrDie(kChat);
  ASSERT_EQ(data.examples.size(), 2u);
  EXPECT_EQ(Learned(data.examples[0]), "<think></think>Hello</s>");
  EXPECT_EQ(Learned(data.examples[1]), "<think></think>Done</s>");
  EXPECT_THAT(All(data.examples[1]), HasSubstr("<s>assistant\nHello</s>\n<s>user\nOn"));
}

TEST_F(DatasetTest, ATemplateWhoseAnswersBeginOtherwise) {
  UseTemplate(
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt "
      "%}<answer>{% endif %}");
  EXPECT_THAT(Error(kChat), HasSubstr("data.jsonl:1: the chat template does not begin message 3"));
}

TEST_F(DatasetTest, ToolsReachTheTemplate) {
  UseTemplate(
      "{{ tools[0].name }}{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}{% if "
      "add_generation_prompt %}[assistant]{% endif %}");
  const Dataset data = LoadOrDie(
      R"({"tools": [{"name": "torch"}], "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})");
  EXPECT_EQ(All(data.examples[0]), "torch[user]a</s>[assistant]b</s>");
  EXPECT_EQ(Learned(data.examples[0]), "b</s>");
}

TEST_F(DatasetTest, TruncationLosesTheEndAndIsCounted) {
  const std::string lines = R"({"prompt": "0123456789", "completion": "abcdef"}
{"prompt": "0123456789", "completion": "ab"}
{"prompt": "01234567890123456789", "completion": "ab"})";
  const Dataset data = LoadOrDie(lines, 13);
  EXPECT_EQ(data.n_truncated, 2);
  EXPECT_EQ(data.n_dropped, 1);
  ASSERT_EQ(data.examples.size(), 2u);
  EXPECT_EQ(Learned(data.examples[0]), "abc");
  EXPECT_EQ(Learned(data.examples[1]), "ab</s>");
  const auto none = Load(lines, 5);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message,
              HasSubstr("no example to learn from (3 have nothing to learn within the longest sequence"));
}

TEST_F(DatasetTest, ErrorsNameTheLine) {
  const std::string good = "{\"text\": \"a b\"}\n\n";
  EXPECT_THAT(Error(good + "{\"text\": 3}"), HasSubstr("data.jsonl:3: \"text\""));
  EXPECT_THAT(Error(good + "{\"text\""), HasSubstr("data.jsonl:3: not valid JSON"));
  EXPECT_THAT(Error(good + "[1]"), HasSubstr("data.jsonl:3: not a JSON object"));
  EXPECT_THAT(Error(good + "{\"prompt\": \"a\"}"), HasSubstr("data.jsonl:3: \"completion\" is missing"));
  EXPECT_THAT(Error(good + "{\"instruction\": \"a\"}"), HasSubstr("data.jsonl:3: needs \"text\""));
  EXPECT_THAT(Error(good + "{\"messages\": []}"), HasSubstr("data.jsonl:3: \"messages\""));
  EXPECT_THAT(Error(good + "{\"messages\": {}}"), HasSubstr("data.jsonl:3: \"messages\""));
  EXPECT_THAT(Error(good + R"({"messages": [{"role": "user", "content": "a"}]})"),
              HasSubstr("data.jsonl:3: no assistant message"));
  EXPECT_THAT(Error(""), HasSubstr("no example to learn from"));
  UseTemplate("{{ raise_exception('roles must alternate') }}");
  EXPECT_THAT(Error(good + kChat), HasSubstr("data.jsonl:3: "));
  EXPECT_THAT(Error(good + kChat), HasSubstr("roles must alternate"));
  chat_template_.reset();
  EXPECT_THAT(Error(good + kChat),
              HasSubstr("data.jsonl:3: has messages, but the model has no chat template"));
  EXPECT_THAT(LoadDataset(folder_ / "absent", *tokenizer_, nullptr, {}).error().message, HasSubstr("absent"));
}

TEST_F(DatasetTest, PromptsForScoring) {
  const std::string path = Write(
      std::string(R"({"prompt": "torch", "completion": " on"})") + "\n" +
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})");
  const auto prompts = LoadPrompts(path, *tokenizer_, &*chat_template_);
  ASSERT_TRUE(prompts) << prompts.error().message;
  EXPECT_EQ(tokenizer_->Decode((*prompts)[0].prompt, true), "torch");
  EXPECT_EQ((*prompts)[0].answer, " on");
  EXPECT_EQ(tokenizer_->Decode((*prompts)[1].prompt, true), "<s>user\nHi</s>\n<s>assistant\n");
  EXPECT_EQ((*prompts)[1].answer, "Hello");
}

Dataset ManyExamples(int64_t n) {
  Dataset data;
  for (int64_t i = 0; i < n; ++i) {
    const size_t length = static_cast<size_t>(2 + i * 7 % 30);
    data.examples.push_back(
        {std::vector<TokenId>(length, static_cast<TokenId>(i)), std::vector<TokenId>(length, -1)});
  }
  return data;
}

TEST(BatchTest, EveryExampleOnceInASeededOrder) {
  const Dataset data = ManyExamples(50);
  for (const bool pack : {false, true}) {
    const auto batches = DealBatches(data, 4, pack, 32, 7);
    std::set<const Example*> seen;
    for (const auto& batch : batches) {
      int64_t tokens = 0;
      for (const Example* example : batch) {
        EXPECT_TRUE(seen.insert(example).second);
        tokens += static_cast<int64_t>(example->tokens.size());
      }
      if (pack) {
        EXPECT_LE(tokens, 4 * 32);
      } else {
        EXPECT_TRUE(batch.size() == 4 || &batch == &batches.back());
      }
    }
    EXPECT_EQ(seen.size(), 50u);
    EXPECT_EQ(batches, DealBatches(data, 4, pack, 32, 7));
    EXPECT_NE(batches, DealBatches(data, 4, pack, 32, 8));
  }
  EXPECT_LT(DealBatches(data, 4, true, 32, 7).size(), DealBatches(data, 4, false, 32, 7).size());
}

TEST(BatchTest, ExamplesStayApart) {
  const Dataset data = ManyExamples(3);
  const TrainBatch batch = MakeBatch({&data.examples[2], &data.examples[0]});
  EXPECT_EQ(batch.lengths, (std::vector<int64_t>{16, 2}));
  EXPECT_EQ(batch.tokens.size(), 18u);
  EXPECT_EQ(batch.labels.size(), 18u);
  EXPECT_EQ(batch.tokens[15], 2);
  EXPECT_EQ(batch.tokens[16], 0);
}

}  // namespace
}  // namespace thimble
