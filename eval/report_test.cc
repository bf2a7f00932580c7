#include "eval/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "base/file.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Json GoodEval() {
  return {{"name", "Q4_0"}, {"model", "m.gguf"}, {"bytes", 1000}, {"ppl", 12.5}, {"ppl_se", 0.5}};
}

std::string Render(const ReportInput& input) {
  const auto page = RenderReport(input);
  EXPECT_TRUE(page) << page.error().message;
  return page ? *page : "";
}

size_t Count(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

// What the page's script will read.
Json EmbeddedData(const std::string& page) {
  const std::string begin = "id=\"data\">";
  const size_t at = page.find(begin) + begin.size();
  const auto data = ParseJson(page.substr(at, page.find("</script>", at) - at), "the page");
  EXPECT_TRUE(data) << data.error().message;
  return *data;
}

TEST(Report, CarriesWhatItWasGiven) {
  const auto log =
      ParseTuneLog("{\"step\":1,\"loss\":2.5}\n\n{\"step\":1,\"eval_loss\":2.25}\n", "run", "log.jsonl");
  ASSERT_TRUE(log) << log.error().message;
  const Json data = EmbeddedData(Render({.records = {GoodEval()}, .tunes = {*log}, .title = "A title"}));
  EXPECT_EQ(data["title"], "A title");
  EXPECT_EQ(data["records"], Json::array({GoodEval()}));
  EXPECT_EQ(data["tunes"][0]["name"], "run");
  EXPECT_EQ(data["tunes"][0]["entries"][1]["eval_loss"], 2.25);
}

TEST(Report, MarkupInNamesStaysText) {
  const std::string evil = "</script><script>alert(1)</script><!--<b>&\"'{{js}}{{data}}", line_end = "\u2028";
  Json eval = GoodEval();
  for (const char* key : {"name", "model", "text", "reference", "command"}) eval[key] = evil + line_end;
  eval["adapters"] = Json::array({evil});
  eval["layers"] = Json::array({{{"layer", 0}, {"module", evil}, {"type", evil}, {"relative_error", 0.5}}});
  const std::string plain = Render({.records = {GoodEval()}, .title = "t"});
  const std::string page = Render({.records = {eval},
                                   .tunes = {{.name = evil, .entries = {{{"step", 1}, {"loss", 1.0}}}}},
                                   .title = evil});
  for (const char* tag : {"<script", "</script", "<!--", "<b>", "\u2028"}) {
    EXPECT_EQ(Count(page, tag), Count(plain, tag)) << tag;
  }
  EXPECT_THAT(page, HasSubstr("<title>&lt;/script&gt;&lt;script&gt;alert(1)"));
  EXPECT_EQ(EmbeddedData(page)["records"][0], eval);  // and nothing is lost
}

TEST(Report, BytesThatAreNotTextDoNotBreakThePage) {
  Json eval = GoodEval();
  eval["name"] = "a\xff\xfe";
  EXPECT_EQ(EmbeddedData(Render({.records = {eval}}))["records"][0]["name"], "a\uFFFD\uFFFD");
}

TEST(Report, LoadsNothing) {
  const std::string page = Render({.records = {GoodEval()}});
  EXPECT_THAT(page, Not(HasSubstr("{{")));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char* loader : {"<link", "<img", "<iframe", " src=", "@import", "fetch(", "import("}) {
    EXPECT_THAT(page, Not(HasSubstr(loader)));
  }
  EXPECT_EQ(Count(page, "url("), Count(page, "url(#"));  // of the page's own parts
  size_t names = 0;                                      // of XML's, no addresses
  for (const char* name :
       {"1998/Math/MathML", "1999/xhtml", "1999/xlink", "2000/svg", "2000/xmlns/", "XML/1998/namespace"}) {
    names += Count(page, std::string("http://www.w3.org/") + name);
  }
  EXPECT_EQ(Count(page, "://"), names);
}

TEST(Report, NothingToShowIsAnError) {
  EXPECT_FALSE(RenderReport({}));
  EXPECT_FALSE(RenderReport({.tunes = {{.name = "empty"}}}));
  EXPECT_FALSE(RenderReport({.records = {Json{{"bytes", 5}}}}));
}

TEST(Report, BadEvaluationsAreNamedWithTheirField) {
  EXPECT_TRUE(CheckRecord(GoodEval(), "a.json"));
  const auto complains = [](const char* key, Json value, const char* says) {
    Json eval = GoodEval();
    eval[key] = std::move(value);
    const Status status = CheckRecord(eval, "a.json");
    ASSERT_FALSE(status) << key;
    EXPECT_THAT(status.error().message, ::testing::StartsWith("a.json: "));
    EXPECT_THAT(status.error().message, HasSubstr(says));
  };
  complains("bytes", 0, "bytes");
  complains("bytes", "1 MB", "bytes");
  complains("name", 5, "name");
  complains("ppl_se", "small", "ppl_se");
  complains("ppl", nullptr, "none of");
  complains("exact_match", 0.9, "exact_match");
  complains("exact_match", {{"correct", 3}, {"total", 2}, {"low", 0}, {"high", 1}}, "exact_match.correct");
  complains("exact_match", {{"correct", 0}, {"total", 0}, {"low", 0}, {"high", 1}}, "exact_match.total");
  complains("training", 3, "training");
  complains("training", {{"method", 5}}, "training.method");
  complains("training", {{"method", "lora"}, {"seconds", "many"}}, "training.seconds");
  complains("layers", 3, "layers");
  complains("layers", Json::array({{{"layer", 0}, {"module", 1}, {"relative_error", 0}}}),
            "layers[0].module");
  complains("kind", "soup", "kind");
  complains("texts", Json::array({{{"name", "en"}}}), "texts[0].ppl");
  complains("worst", Json::array({5}), "worst[0]");
  complains("inputs", Json::array({{{"path", "a"}, {"sha256", nullptr}}}), "inputs[0].sha256");
  EXPECT_FALSE(CheckRecord(Json::array(), "a.json"));
  Json only_match = {{"bytes", 1}, {"exact_match", {{"correct", 1}, {"total", 2}, {"low", 0}, {"high", 1}}}};
  EXPECT_TRUE(CheckRecord(only_match, "a.json"));
  const Json task = {{"name", "arc"}, {"total", 3}, {"acc", 0.5}, {"acc_norm", 0.5}};
  EXPECT_TRUE(CheckRecord({{"bytes", 1}, {"ppl", nullptr}, {"tasks", {task}}}, "a.json"));
}

// Each field that the page reads as a number is asked for, so that no page fails to draw.
void ExpectEveryNumberIsChecked(const Json& good, const std::string& list) {
  ASSERT_TRUE(CheckRecord(good, "a.json"));
  for (const auto& [key, value] : good[list][0].items()) {
    Json bad = good;
    bad[list][0][key] = Json::array();
    const Status status = CheckRecord(bad, "a.json");
    ASSERT_FALSE(status) << key;
    EXPECT_THAT(status.error().message, HasSubstr(list + "[0]." + key));
  }
}

TEST(Report, BadFitsAreNamedWithTheirField) {
  const Json score = {{"text", "all"},  {"tokens", 9},           {"kld_mean", 0.1},
                      {"kld_se", 0.01}, {"top1_agreement", 0.9}, {"ppl_ratio", 1.1}};
  const Json point = {{"bytes", 900}, {"kld", 0.2}};
  Json fit = {
      {"kind", "fit"},       {"bytes", 900},           {"model_bytes", 2000},  {"bits_per_weight", 4.5},
      {"expected_kld", 0.1}, {"activation_kld", 0.01}, {"selection", {score}}, {"expected_ram_bytes", 5},
      {"front", {point}}};
  fit["types"] = {{{"type", "Q4_0"}, {"bytes", 900}, {"kld", 0.1}, {"other", 0}}};
  fit["tensors"] = {{{"name", "a"},
                     {"type", "Q4_0"},
                     {"bytes", 5},
                     {"weights", 6},
                     {"expected_kld", 0.1},
                     {"relative_error", 0.1}}};
  fit["texts"] = {{{"name", "en"}, {"calibration", 8}, {"selection", 1}, {"scoring", 1}}};
  for (const char* list : {"selection", "front", "types", "tensors", "texts"}) {
    ExpectEveryNumberIsChecked(fit, list);
  }
  for (const char* key : {"bytes", "model_bytes", "expected_kld", "activation_kld", "front", "tensors"}) {
    Json bad = fit;
    bad.erase(key);
    const Status status = CheckRecord(bad, "a.json");
    ASSERT_FALSE(status) << key;
    EXPECT_THAT(status.error().message, HasSubstr(key));
  }
}

TEST(Report, BadComparisonsAreNamedWithTheirField) {
  Json comparison = {{"kind", "compare"}};
  comparison["models"] = {{{"name", "a"}, {"bytes", 5}, {"bits_per_weight", 4.5}}};
  comparison["rows"] = {{{"model", "a"},
                         {"text", "en"},
                         {"n_tokens", 5},
                         {"n_windows", 1},
                         {"ppl", 9.5},
                         {"ppl_ratio", 1},
                         {"kld_mean", 0.1},
                         {"kld_p99", 1},
                         {"top1_agreement", 0.9}}};
  comparison["task_rows"] = {{{"model", "a"}, {"name", "arc"}, {"total", 3}, {"acc", 1}, {"acc_norm", 1}}};
  for (const char* list : {"models", "rows", "task_rows"}) ExpectEveryNumberIsChecked(comparison, list);
  comparison.erase("models");
  EXPECT_FALSE(CheckRecord(comparison, "a.json"));
}

TEST(Report, BadLogLinesAreNumbered) {
  const auto complains = [](const char* text, const char* says) {
    const auto log = ParseTuneLog(text, "run", "log.jsonl");
    ASSERT_FALSE(log) << text;
    EXPECT_THAT(log.error().message, HasSubstr(says));
  };
  complains("{\"step\":1,\"loss\":2}\n{\"step\":2}\n", "log.jsonl:2");
  complains("{\"step\":1,\"loss\":2}\n\nnot json\n", "log.jsonl:3");
  complains("[1]\n", "log.jsonl:1");
  complains("\n \n", "no lines");
}

}  // namespace
}  // namespace thimble
