#include "engine/session.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/test_support.h"

namespace thimble {
namespace {

class SessionTest : public ::testing::Test {
 protected:
  Session NewSession(int64_t n_ctx = 0) const {
    return Session(ctx_, *llama_.model, *llama_.tokenizer, n_ctx);
  }
  std::vector<TokenId> Ids(const std::string& text) const {
    return llama_.tokenizer->Encode(text, false, false);
  }
  static GenerateOptions Greedy(int64_t max_tokens) {
    GenerateOptions options{.max_tokens = max_tokens, .ignore_eos = true};
    options.sampling.temperature = 0;
    return options;
  }
  static GenerateOptions Sampled(int64_t max_tokens, uint64_t seed) {
    GenerateOptions options = Greedy(max_tokens);
    options.sampling.temperature = 1;
    options.sampling.seed = seed;
    return options;
  }

  ThreadPool pool_{1};
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
  Loaded llama_ = Load("llama");
};

TEST_F(SessionTest, GreedyTokensAreTransformers) {
  for (const char* name : {"llama", "llama_rope_llama3", "mistral", "qwen2", "qwen3", "gemma3_text"}) {
    const Loaded loaded = Load(name);
    const auto expected = ReadJsonFile(kModels + name + "/expected.json");
    ASSERT_TRUE(expected);
    Session session(ctx_, *loaded.model, *loaded.tokenizer);
    for (const Json& sequence : (*expected)["sequences"]) {
      const auto greedy = sequence["greedy"].get<std::vector<TokenId>>();
      const auto out = Answer(session, sequence["ids"], Greedy(static_cast<int64_t>(greedy.size())));
      EXPECT_EQ(out.tokens, greedy) << name;
      EXPECT_EQ(out.reason, FinishReason::kLength);
    }
  }
}

TEST_F(SessionTest, ReusedCacheGivesTheTokensOfAFreshSession) {
  Session session = NewSession();
  std::vector<TokenId> conversation = Ids("Once upon a time");
  for (int turn = 0; turn < 4; ++turn) {
    const GenerateOptions options = Sampled(12, static_cast<uint64_t>(turn));
    const Generation again = Answer(session, conversation, options);
    Session fresh = NewSession();
    const Generation anew = Answer(fresh, conversation, options);
    EXPECT_EQ(again.tokens, anew.tokens) << "turn " << turn;
    EXPECT_EQ(anew.n_cached, 0);
    if (turn > 0) {
      EXPECT_GT(again.n_cached, 10) << "turn " << turn;
    }
    conversation.insert(conversation.end(), again.tokens.begin(), again.tokens.end());
    const auto more = Ids(" and then ");
    conversation.insert(conversation.end(), more.begin(), more.end());
  }
}

TEST_F(SessionTest, ACacheThatSharesOnlyTheBeginningIsCutThere) {
  Session session = NewSession();
  Answer(session, Ids("abcdefgh"), Greedy(8));
  const Generation out = Answer(session, Ids("abcdXYZ"), Greedy(8));
  EXPECT_EQ(out.n_cached, 4);
  Session fresh = NewSession();
  EXPECT_EQ(out.tokens, Answer(fresh, Ids("abcdXYZ"), Greedy(8)).tokens);
  EXPECT_EQ(Answer(session, Ids("abcdXYZ"), Greedy(8)).tokens, out.tokens);  // the same prompt once more
}

TEST_F(SessionTest, APromptThatDoesNotFitIsRefusedAndTheSessionGoesOn) {
  Session session = NewSession(16);
  EXPECT_EQ(session.n_ctx(), 16);
  const Generation before = Answer(session, Ids("abc"), Greedy(4));
  const auto refused = session.Generate(std::vector<TokenId>(16, 5), Greedy(4));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("16 tokens, but the context holds 16"), std::string::npos)
      << refused.error().message;
  EXPECT_NE(refused.error().message.find("--ctx-size"), std::string::npos);
  EXPECT_EQ(Answer(session, Ids("abc"), Greedy(4)).tokens, before.tokens);
}

TEST_F(SessionTest, AFullContextEndsTheAnswer) {
  Session session = NewSession(16);
  const Generation out = Answer(session, Ids("abcdef"), Greedy(-1));
  EXPECT_EQ(out.reason, FinishReason::kContextFull);
  EXPECT_EQ(out.tokens.size(), 11u);  // ten more fit into the cache; the last needs no place in it
  Session large = NewSession(64);
  EXPECT_EQ(Answer(large, Ids("abcdef"), Greedy(11)).tokens, out.tokens);
}

TEST_F(SessionTest, BadPromptsAreRefused) {
  Session session = NewSession();
  EXPECT_FALSE(session.Generate({}, Greedy(1)));
  for (TokenId id : {-1, 272}) {
    const auto refused = session.Generate({1, id}, Greedy(1));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(std::to_string(id)), std::string::npos);
  }
}

TEST_F(SessionTest, NoTokensWhereNoneAreWanted) {
  Session session = NewSession();
  const Generation out = Answer(session, Ids("abc"), Greedy(0));
  EXPECT_TRUE(out.tokens.empty() && out.text.empty());
  EXPECT_EQ(out.reason, FinishReason::kLength);
}

// Random weights may choose the end token at any time: it ends the answer and is no part of it.
TEST_F(SessionTest, TheEndTokenEndsTheAnswer) {
  const TokenId eos = *llama_.tokenizer->spec().eos;
  Session session = NewSession();
  int ended = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    GenerateOptions options = Sampled(100, seed);
    options.sampling = {.temperature = 5, .top_k = 0, .top_p = 1, .min_p = 0, .seed = seed};
    const Generation whole = Answer(session, Ids("abc"), options);
    options.ignore_eos = false;
    const Generation out = Answer(session, Ids("abc"), options);
    const auto end = std::find(whole.tokens.begin(), whole.tokens.end(), eos);
    EXPECT_EQ(out.tokens, std::vector<TokenId>(whole.tokens.begin(), end));
    EXPECT_EQ(out.reason, end == whole.tokens.end() ? FinishReason::kLength : FinishReason::kStop);
    ended += end != whole.tokens.end();
  }
  EXPECT_GT(ended, 0);
}

// Places in UTF-8 text where a character begins, and the end.
std::vector<size_t> Boundaries(const std::string& text) {
  std::vector<size_t> at;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] & 0xc0) != 0x80) at.push_back(i);
  }
  return at;
}

TEST_F(SessionTest, StopStringsNeverLeak) {
  Session session = NewSession();
  const Generation whole = Answer(session, Ids("Stop here"), Sampled(40, 3));
  const std::vector<size_t> at = Boundaries(whole.text);
  std::set<std::string> stops;
  for (size_t length : {1, 2, 5}) {
    for (size_t i = 0; i + length < at.size(); ++i)
      stops.insert(whole.text.substr(at[i], at[i + length] - at[i]));
  }
  ASSERT_GT(stops.size(), 20u);
  for (const std::string& stop : stops) {
    GenerateOptions options = Sampled(40, 3);
    options.stop = {"never in there", stop,
                    stop + whole.text};  // the last one begins alike and does not come
    std::string shown;
    const Generation out = Answer(session, Ids("Stop here"), options, [&](const std::string& piece) {
      EXPECT_FALSE(piece.empty());
      shown += piece;
      return true;
    });
    EXPECT_EQ(out.text, whole.text.substr(0, whole.text.find(stop)));
    EXPECT_EQ(shown, out.text);
    EXPECT_EQ(out.reason, FinishReason::kStop);
  }
}

TEST_F(SessionTest, TextThatOnlyBeginsLikeAStopStringIsShown) {
  Session session = NewSession();
  const Generation whole = Answer(session, Ids("Stop here"), Sampled(40, 3));
  const std::vector<size_t> at = Boundaries(whole.text);
  for (size_t i = 0; i + 1 < at.size(); ++i) {  // the end of the text, and then what never comes
    GenerateOptions options = Sampled(40, 3);
    options.stop = {whole.text.substr(at[i]) + "\x01never\x01"};
    std::string shown;
    const Generation out = Answer(session, Ids("Stop here"), options, [&](const std::string& piece) {
      shown += piece;
      return true;
    });
    EXPECT_EQ(out.text, whole.text);
    EXPECT_EQ(shown, whole.text);
    EXPECT_EQ(out.reason, FinishReason::kLength);
  }
}

TEST_F(SessionTest, TheCallerCancelsAndGoesOn) {
  Session session = NewSession();
  const Generation whole = Answer(session, Ids("abc"), Greedy(30));
  int pieces = 0;
  const Generation out =
      Answer(session, Ids("abc"), Greedy(30), [&](const std::string&) { return ++pieces < 3; });
  EXPECT_EQ(out.reason, FinishReason::kCancelled);
  EXPECT_LT(out.tokens.size(), whole.tokens.size());
  EXPECT_TRUE(whole.text.starts_with(out.text));
  EXPECT_EQ(Answer(session, Ids("abc"), Greedy(30)).tokens, whole.tokens);
}

TEST_F(SessionTest, AdaptersChangeTheAnswerAndClearTheCache) {
  const Adapter adapter = RandomAdapter(*llama_.model, 1), other = RandomAdapter(*llama_.model, 2);
  const auto prompt = Ids("The adapter says");
  Session session = NewSession();
  const Generation base = Answer(session, prompt, Greedy(16));

  session.SetAdapters({{.adapter = &adapter}, {.adapter = &other, .scale = 0.5f}});
  const Generation with = Answer(session, prompt, Greedy(16));
  EXPECT_EQ(with.n_cached, 0);
  EXPECT_NE(with.tokens, base.tokens);
  Session fresh = NewSession();
  fresh.SetAdapters({{.adapter = &adapter}, {.adapter = &other, .scale = 0.5f}});
  EXPECT_EQ(Answer(fresh, prompt, Greedy(16)).tokens, with.tokens);

  session.SetAdapters({});
  const Generation without = Answer(session, prompt, Greedy(16));
  EXPECT_EQ(without.n_cached, 0);
  EXPECT_EQ(without.tokens, base.tokens);
}

}  // namespace
}  // namespace thimble
