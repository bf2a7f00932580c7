// Templates come from strangers: whatever they hold, an error in bounded time and memory.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/random.h"
#include "text/chat_template.h"

namespace thimble {
namespace {

std::string Repeated(const std::string& text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

std::string ErrorOf(const std::string& source) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed) return parsed.error().message;
  const auto text = parsed->Render({});
  return text ? "" : text.error().message;
}

TEST(ChatTemplateHostileTest, DeepNestingIsASyntaxError) {
  for (const std::string& source : {
           "{{ " + Repeated("(", 100000) + "1" + Repeated(")", 100000) + " }}",
           "{{ " + Repeated("[", 100000) + Repeated("]", 100000) + " }}",
           "{{ " + Repeated("{1:", 100000) + "1" + Repeated("}", 100000) + " }}",
           "{{ " + Repeated("-", 100000) + "1 }}",
           "{{ " + Repeated("not ", 100000) + "1 }}",
           "{{ 1" + Repeated(" + 1", 100000) + " }}",
           "{{ 1" + Repeated(" ** 1", 100000) + " }}",
           "{{ a" + Repeated(".a", 100000) + " }}",
           "{{ a" + Repeated("[0]", 100000) + " }}",
           "{{ a" + Repeated("()", 100000) + " }}",
           "{{ a" + Repeated("|list", 100000) + " }}",
           "{{ a" + Repeated(" and a", 100000) + " }}",
           "{{ " + Repeated("1 if 1 else ", 100000) + "1 }}",
           Repeated("{% if 1 %}", 100000) + Repeated("{% endif %}", 100000),
           Repeated("{% for i in [1] %}", 100000) + Repeated("{% endfor %}", 100000),
           Repeated("{% macro m() %}", 100000) + Repeated("{% endmacro %}", 100000),
           "{% set " + Repeated("(", 100000) + "a" + Repeated(")", 100000) + " = 1 %}",
       }) {
    EXPECT_NE(ErrorOf(source), "") << source.substr(0, 40);
  }
  // Wide is not deep.
  EXPECT_EQ(ErrorOf("{{ 1" + Repeated(" ~ 1", 100000) + " }}"), "");
  EXPECT_EQ(ErrorOf("{{ [1" + Repeated(", 1", 100000) + "]|length }}"), "");
  EXPECT_EQ(ErrorOf("{% if 0 %}" + Repeated("{% elif 0 %}", 20000) + "{% endif %}"), "");
}

TEST(ChatTemplateHostileTest, EndlessWorkMeetsALimit) {
  const std::string loop = "{% for i in range(100000) %}";
  const std::string ten = "{% for i in range(10) %}";
  for (const std::string& source : {
           std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
           std::string("{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}"),
           std::string("{% macro m() %}{{ caller() }}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}"
                       "{% call m() %}{% endcall %}"),
           std::string("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
           std::string("{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}"),
           std::string("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}"),
           std::string("{{ range(10**9) }}"),
           std::string("{{ range(0 - 10**18, 10**18) | list }}"),
           std::string("{{ 'x' * 10**9 }}"),
           std::string("{{ [1] * 10**9 }}"),
           std::string("{{ 'x' * (10**30) }}"),
           std::string("{{ 10 ** 10 ** 10 }}"),
           std::string("{{ 'x'|center(10**9) }}"),
           std::string("{{ 'x'.ljust(10**9) }}{{ 'x'.zfill(10**9) }}"),
           std::string("{{ '%1000000000d' % 1 }}"),
           std::string("{{ '{:1000000000}'.format(1) }}"),
           std::string("{{ 1.5|round(10**9) }}{{ 'a'|indent(10**9) }}"),
           std::string("{{ [1]|tojson(indent=10**9) }}"),
           std::string("{{ [1]|batch(10**9, 0)|list }}"),
           std::string("{{ [1]|slice(10**9)|list }}"),
           std::string("{{ strftime_now('%1000000000d') }}"),
           loop + loop + "{% endfor %}{% endfor %}",
           loop + loop + "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
           "{% set ns = namespace(s='x') %}" + loop + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
           "{% set ns = namespace(s=[1]) %}" + loop + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
           "{% set ns = namespace(s=[]) %}" + loop + "{% set ns.s = [ns.s, ns.s] %}{% endfor %}",
           "{% set ns = namespace(s=[]) %}" + loop + "{% set ns.s = [ns.s] %}{% endfor %}",
           "{% set ns = namespace(s={}) %}" + loop + "{% set ns.s = dict(a=ns.s) %}{% endfor %}",
           "{% set ns = namespace(s=[1]) %}" + loop +
               "{% set ns.s = ns.s|map('string') %}{% endfor %}{{ ns.s|list }}",
           "{% set ns = namespace(s=(1, 2)) %}" + Repeated(ten, 7) +
               "{% set ns.s = (ns.s, ns.s) %}{{ {ns.s: 1} }}" + Repeated("{% endfor %}", 7),
           "{% set s = 'a' * 10**7 %}" + loop + "{{ s.replace('a', 'bb') }}{% endfor %}",
           "{% set s = 'a' * 10**6 %}" + loop + "{{ s.split('') }}{% endfor %}",
           "{% set s = ('ab' * 10**6) %}" + loop + "{% set q = s.split('a') %}{% endfor %}",
           "{% set s = 'a' * 10**6 %}" + loop + "{% if 'b' in s %}{% endif %}{% endfor %}",
       }) {
    EXPECT_NE(ErrorOf(source), "") << source.substr(0, 80);
  }
}

TEST(ChatTemplateHostileTest, ValuesThatHoldThemselvesAreFreed) {  // under LeakSanitizer
  for (const std::string& source : {
           std::string("{% set ns = namespace() %}{% set ns.x = [ns] %}"),
           std::string("{% macro m() %}{% endmacro %}{% set ns = namespace(m=m) %}"),
           std::string("{% for i in [1, 2] %}{% set q = loop.changed(loop) %}{% endfor %}"),
           std::string("{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}"
                       "{% set ns.m = m %}{% endfor %}{{ ns.m() }}"),
           std::string("{% set ns = namespace(n=none) %}{% for i in range(50000) %}"
                       "{% set ns.n = namespace(n=ns.n) %}{% endfor %}"),
       }) {
    EXPECT_EQ(ErrorOf(source), "") << source;
  }
}

TEST(ChatTemplateHostileTest, AVeryLongTemplateIsRefused) {
  EXPECT_EQ(ErrorOf(Repeated("text {{ 1 }}\n", 100000)), "");
  EXPECT_NE(ErrorOf(Repeated("text {{ 1 }}\n", 1000000)), "");
}

// Sources to spoil: all of ours, and the real templates where they are at hand.
std::vector<std::string> Sources() {
  std::vector<std::string> sources;
  if (const auto json = ReadJsonFile(THIMBLE_SOURCE_DIR "/tests/golden/templates/snippets.json")) {
    for (const Json& one : (*json)["cases"]) sources.push_back(one["source"].get<std::string>());
  }
  EXPECT_FALSE(sources.empty());
  std::error_code absent;
  for (const auto& entry : std::filesystem::directory_iterator(
           THIMBLE_SOURCE_DIR "/../shared/conformance/chat_templates", absent)) {
    if (const auto text = ReadFile(entry.path().string())) sources.insert(sources.end(), 100, *text);
  }
  return sources;
}

TEST(ChatTemplateHostileTest, SpoiltTemplatesNeitherCrashNorHang) {
  ChatTemplateInputs inputs;
  inputs.messages = Json::parse(
      R"([{"role":"system","content":"s"},{"role":"user","content":"<é>\n"},{"role":"assistant","content":"a",
      "tool_calls":[{"id":"abcdef123","function":{"name":"f","arguments":{"x":[1,2.5,null]}}}]}])");
  inputs.tools =
      Json::parse(R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
  inputs.add_generation_prompt = true;
  inputs.extra =
      Json::parse(R"({"nums":[3,1,2],"words":["b","A"],"d":{"a":1,"b":2},"name":"Ada","text":" x\ny "})");
  Random random(7);
  const auto sources = Sources();
  const std::string alphabet = "{}%#()[]|.,:=-+*/~'\"\\ \n_01axe\xc3\xff";
  int n_rendered = 0;
  for (const std::string& source : sources) {
    std::string spoilt = source;
    const size_t n_changes = 1 + random.Below(4);
    for (size_t i = 0; i < n_changes && !spoilt.empty(); ++i) {
      const size_t at = random.Below(spoilt.size());
      const char c = alphabet[random.Below(alphabet.size())];
      switch (random.Below(4)) {
        case 0:
          spoilt[at] = c;
          break;
        case 1:
          spoilt.insert(at, 1, c);
          break;
        case 2:
          spoilt.erase(at, 1 + random.Below(10));
          break;
        default:
          spoilt.insert(at, source.substr(random.Below(source.size()), random.Below(40)));
      }
    }
    const auto parsed = ChatTemplate::Parse(spoilt);
    if (parsed && parsed->Render(inputs)) ++n_rendered;
  }
  EXPECT_GT(n_rendered, 100);
}

}  // namespace
}  // namespace thimble
