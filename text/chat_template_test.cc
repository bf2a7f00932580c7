// Chat templates against Python's Jinja2. The expected texts come from tools/make_template_goldens.py.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"

namespace thimble {
namespace {

const std::string kGoldens = THIMBLE_SOURCE_DIR "/tests/golden/templates/";
const std::string kTemplates = THIMBLE_SOURCE_DIR "/../shared/conformance/chat_templates/";

Json Golden(const std::string& name) {
  auto json = ReadJsonFile(kGoldens + name);
  EXPECT_TRUE(json) << json.error().message;
  return json ? *std::move(json) : Json::object();
}

ChatTemplateInputs InputsFrom(const Json& variables, const Json& golden) {
  ChatTemplateInputs inputs;
  inputs.now = golden["now"].get<int64_t>();
  for (const auto& [name, value] : variables.items()) {
    if (name == "messages") {
      inputs.messages = value;
    } else if (name == "tools") {
      inputs.tools = value;
    } else if (name == "add_generation_prompt") {
      inputs.add_generation_prompt = value.get<bool>();
    } else if (name == "bos_token") {
      inputs.bos_token = value.get<std::string>();
    } else if (name == "eos_token") {
      inputs.eos_token = value.get<std::string>();
    } else {
      inputs.extra[name] = value;
    }
  }
  return inputs;
}

Result<std::string> Render(const std::string& source, const ChatTemplateInputs& inputs = {}) {
  ASSIGN_OR_RETURN(const ChatTemplate parsed, ChatTemplate::Parse(source));
  return parsed.Render(inputs);
}

// `expected` has the text, or what raise_exception said, or the error of Jinja2, whose words are not ours.
void ExpectSame(const Json& expected, const Result<std::string>& actual) {
  if (expected.contains("text")) {
    ASSERT_TRUE(actual) << actual.error().message;
    EXPECT_EQ(*actual, expected["text"].get<std::string>());
    return;
  }
  ASSERT_FALSE(actual) << "Jinja2 fails with " << expected.dump() << ", but this was rendered: " << *actual;
  if (expected.contains("raised")) {
    EXPECT_NE(actual.error().message.find(expected["raised"].get<std::string>()), std::string::npos)
        << actual.error().message;
  }
}

class ChatTemplateTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("TZ", "UTC", 1);  // strftime_now shows local time
  }
};

TEST_F(ChatTemplateTest, SnippetsAreJinja2s) {
  const Json golden = Golden("snippets.json");
  const ChatTemplateInputs inputs = InputsFrom(golden["variables"], golden);
  ASSERT_GT(golden["cases"].size(), 900u);
  for (const Json& one : golden["cases"]) {
    const std::string source = one["source"].get<std::string>();
    SCOPED_TRACE(source);
    ExpectSame(one, Render(source, inputs));
  }
}

TEST_F(ChatTemplateTest, RealTemplatesAreJinja2s) {
  if (!std::filesystem::exists(kTemplates)) GTEST_SKIP() << "needs the templates of " << kTemplates;
  const Json golden = Golden("conversations.json");
  ASSERT_EQ(golden["expected"].size(), 10u);
  for (const auto& [file, conversations] : golden["expected"].items()) {
    const auto source = ReadFile(kTemplates + file);
    ASSERT_TRUE(source) << source.error().message;
    const auto parsed = ChatTemplate::Parse(*source, file);
    ASSERT_TRUE(parsed) << parsed.error().message;
    int n_texts = 0;
    for (const auto& [name, expected] : conversations.items()) {
      SCOPED_TRACE(file + ": " + name);
      ExpectSame(expected, parsed->Render(InputsFrom(golden["conversations"][name], golden)));
      n_texts += expected.contains("text");
    }
    EXPECT_GE(n_texts, 8) << file;
  }
}

TEST_F(ChatTemplateTest, ErrorsNameTheTemplateAndTheLine) {
  const auto syntax = ChatTemplate::Parse("a\n{% if %}", "my.jinja");
  ASSERT_FALSE(syntax);
  EXPECT_EQ(syntax.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(syntax.error().message, "my.jinja, line 2: expected an expression, got '%}'");

  const auto parsed =
      ChatTemplate::Parse("\n\n{% for m in messages %}\n{{ m.x + 1 }}{% endfor %}", "my.jinja");
  ASSERT_TRUE(parsed);
  ChatTemplateInputs inputs;
  inputs.messages = Json::array({Json::object()});
  const auto rendered = parsed->Render(inputs);
  ASSERT_FALSE(rendered);
  EXPECT_EQ(rendered.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(rendered.error().message, "my.jinja, line 4: 'dict object' has no attribute 'x'");
}

TEST_F(ChatTemplateTest, RendersAgainWithOtherInputs) {
  const auto parsed = ChatTemplate::Parse(
      "{% set ns = namespace(n=0) %}{% for m in messages %}"
      "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ more }}");
  ASSERT_TRUE(parsed);
  ChatTemplateInputs inputs;
  inputs.messages = Json::array({1, 2, 3});
  inputs.extra["more"] = "!";
  EXPECT_EQ(parsed->Render(inputs).value_or("error"), "3!");
  EXPECT_EQ(parsed->Render({}).value_or("error"), "0");
  inputs.extra = Json::array();
  EXPECT_FALSE(parsed->Render(inputs));
}

TEST_F(ChatTemplateTest, BytesThatAreNotUtf8BecomeReplacements) {
  ChatTemplateInputs inputs;
  inputs.bos_token = "\xff";
  EXPECT_EQ(Render("a\xc3{{ bos_token }}", inputs).value_or("error"), "a\ufffd\ufffd");
}

TEST_F(ChatTemplateTest, TheClockIsTheDefaultTime) {
  const auto year = Render("{{ strftime_now('%Y') }}");
  ASSERT_TRUE(year);
  EXPECT_EQ(year->size(), 4u);
  EXPECT_GE(*year, "2025");
}

}  // namespace
}  // namespace thimble
