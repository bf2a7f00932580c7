// Generation with a drafter against generation without one.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/session.h"
#include "engine/test_support.h"

namespace thimble {
namespace {

// Knows the text that comes, and errs at every `wrong_every`-th place of it.
class Oracle : public Drafter {
 public:
  explicit Oracle(int64_t wrong_every = 1 << 30) : wrong_every_(wrong_every) {}
  void Know(const std::vector<TokenId>& prompt, const std::vector<TokenId>& answer) {
    text_ = prompt;
    text_.insert(text_.end(), answer.begin(), answer.end());
  }
  std::vector<TokenId> Draft(std::span<const TokenId> history, int64_t max, const Sampler&) override {
    EXPECT_TRUE(history.size() <= text_.size() && std::equal(history.begin(), history.end(), text_.begin()))
        << "not the text that comes";
    largest_ = std::max(largest_, max);
    std::vector<TokenId> draft;
    for (size_t i = history.size(); i < text_.size() && static_cast<int64_t>(draft.size()) < max; ++i) {
      const bool wrong = static_cast<int64_t>(i) % wrong_every_ == 0;
      draft.push_back(wrong ? (text_[i] + 1) % 256 : text_[i]);
    }
    return draft;
  }
  int64_t largest() const { return largest_; }

 private:
  const int64_t wrong_every_;
  int64_t largest_ = 0;
  std::vector<TokenId> text_;
};

// Always guesses the same.
class Parrot : public Drafter {
 public:
  explicit Parrot(std::vector<TokenId> words) : words_(std::move(words)) {}
  std::vector<TokenId> Draft(std::span<const TokenId>, int64_t max, const Sampler&) override {
    return {words_.begin(), words_.begin() + std::min(max, static_cast<int64_t>(words_.size()))};
  }

 private:
  const std::vector<TokenId> words_;
};

// Guesses as another drafter does that does not see the first tokens: its distributions are only similar.
class Nearsighted : public Drafter {
 public:
  explicit Nearsighted(Drafter* drafter) : drafter_(drafter) {}
  std::vector<TokenId> Draft(std::span<const TokenId> history, int64_t max, const Sampler& sampler) override {
    return drafter_->Draft(history.subspan(3), max, sampler);
  }

 private:
  Drafter* const drafter_;
};

class SpeculativeTest : public ::testing::Test {
 protected:
  std::vector<TokenId> Ids(const std::string& text) const {
    return target_.tokenizer->Encode(text, false, false);
  }
  static GenerateOptions Options(double temperature, int64_t max_tokens, uint64_t seed = 0) {
    GenerateOptions options{.max_tokens = max_tokens, .ignore_eos = true};
    options.sampling = {.temperature = temperature, .seed = seed};
    return options;
  }
  std::unique_ptr<Drafter> DraftModel(const Loaded& draft, int64_t n_ctx) const {
    auto drafter = ModelDrafter::Create(ctx_, *draft.model, *draft.tokenizer, *target_.tokenizer, n_ctx);
    EXPECT_TRUE(drafter) << drafter.error().message;
    return std::move(*drafter);
  }

  ThreadPool pool_{1};
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
  Loaded target_ = Load("llama"), other_ = Load("mistral");  // of one vocabulary
  const std::vector<TokenId> prompt_ = Ids("Once upon a time, once upon");
};

TEST_F(SpeculativeTest, TheSameTokensWithEveryDrafter) {
  constexpr int64_t kTokens = 300, kContext = 512;
  struct Case {
    double temperature, penalty;
    int64_t max;
  };
  for (const char* name : {"llama", "gemma3_text"}) {  // without and with sliding windows
    const Loaded target = Load(name);
    for (const Case& c : {Case{0, 1, DraftOptions::kMost}, Case{0, 1.3, 2}, Case{0.8, 1, 7},
                          Case{3, 1.3, DraftOptions::kMost}}) {
      SCOPED_TRACE(testing::Message() << name << ", temperature " << c.temperature);
      GenerateOptions options = Options(c.temperature, kTokens, 7);
      options.sampling.repeat_penalty = c.penalty;
      Session plain(ctx_, *target.model, *target.tokenizer, kContext);
      const Generation expected = Answer(plain, prompt_, options);
      EXPECT_EQ(expected.n_drafted, 0);
      NgramDrafter ngram;
      Oracle right, wrong_often(3), wrong_always(1);
      for (Oracle* oracle : {&right, &wrong_often, &wrong_always}) oracle->Know(prompt_, expected.tokens);
      const auto alike = DraftModel(target, kContext), other = DraftModel(other_, kContext);
      for (Drafter* drafter :
           {static_cast<Drafter*>(&ngram), alike.get(), other.get(), static_cast<Drafter*>(&right),
            static_cast<Drafter*>(&wrong_often), static_cast<Drafter*>(&wrong_always)}) {
        options.draft = {.drafter = drafter, .max = c.max};
        Session session(ctx_, *target.model, *target.tokenizer, kContext);
        const Generation out = Answer(session, prompt_, options);
        EXPECT_EQ(out.tokens, expected.tokens);
        EXPECT_EQ(out.text, expected.text);
        EXPECT_LE(out.n_accepted, out.n_drafted);
        if (drafter == &right || drafter == alike.get()) {
          EXPECT_EQ(out.n_accepted, out.n_drafted);
        } else if (drafter == &wrong_always) {
          EXPECT_EQ(out.n_accepted, 0);
        }
      }
    }
  }
}

// Whatever ends an answer ends it at the same place inside a guess, and the next turn finds the same cache.
TEST_F(SpeculativeTest, EveryEndComesWhereItWould) {
  constexpr int64_t kContext = 96;
  const TokenId eos = *target_.tokenizer->spec().eos;
  Session session(ctx_, *target_.model, *target_.tokenizer, kContext);
  std::map<FinishReason, int> seen;
  const auto shorter = [](const auto& a, const auto& b) { return a.size() < b.size(); };
  int ended = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    GenerateOptions options = Options(5, 60, seed);
    options.sampling.top_k = 0;
    options.sampling.min_p = 0;
    const Generation all = Answer(session, prompt_, options);
    std::vector<GenerateOptions> kinds(5, options);
    kinds[0].ignore_eos = false;
    kinds[1].max_tokens = static_cast<int64_t>(seed);
    kinds[2].stop = {all.text.substr(all.text.size() / 2, 3)};
    kinds[3].max_tokens = -1;  // until the context is full
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      SCOPED_TRACE(testing::Message() << "kind " << kind << ", seed " << seed);
      const auto run = [&](Drafter* drafter) {
        Session fresh(ctx_, *target_.model, *target_.tokenizer, kContext);
        GenerateOptions o = kinds[kind];
        o.draft.drafter = drafter;
        int left = kind == 4 ? static_cast<int>(seed % 20) : 1 << 30;
        Generation out = Answer(fresh, prompt_, o, [&](const std::string&) { return left-- > 0; });
        std::vector<TokenId> next = prompt_;
        next.insert(next.end(), out.tokens.begin(), out.tokens.end());
        if (static_cast<int64_t>(next.size()) + 4 < kContext) next.push_back(65);
        next.resize(std::min<size_t>(next.size(), kContext - 4));
        return std::pair(out, Answer(fresh, next, Options(0, 3)));
      };
      NgramDrafter ngram;
      const auto [plain, after_plain] = run(nullptr);
      Oracle oracle(seed % 2 == 0 ? 7 : 1 << 30);
      oracle.Know(prompt_, std::max(all.tokens, plain.tokens, shorter));
      for (Drafter* drafter : {static_cast<Drafter*>(&oracle), static_cast<Drafter*>(&ngram)}) {
        const auto [out, after] = run(drafter);
        EXPECT_EQ(out.tokens, plain.tokens);
        EXPECT_EQ(out.text, plain.text);
        EXPECT_EQ(out.reason, plain.reason);
        EXPECT_EQ(after.n_cached, after_plain.n_cached);
        EXPECT_EQ(after.tokens, after_plain.tokens);
      }
      ++seen[plain.reason];
    }
    ended += std::find(all.tokens.begin(), all.tokens.end(), eos) != all.tokens.end();
  }
  EXPECT_EQ(seen.size(), 4u);  // every reason
  EXPECT_GT(ended, 0);
}

// The draft model has no adapter: it guesses what the model would say without one.
TEST_F(SpeculativeTest, TheSameTokensWithAnAdapter) {
  const Adapter adapter = RandomAdapter(*target_.model, 1);
  Session session(ctx_, *target_.model, *target_.tokenizer, 128);
  const auto base = Answer(session, prompt_, Options(0.8, 80)).tokens;
  session.SetAdapters({{.adapter = &adapter}});
  GenerateOptions options = Options(0.8, 80);
  const auto expected = Answer(session, prompt_, options).tokens;
  EXPECT_NE(expected, base);
  const auto alike = DraftModel(target_, 128);
  Oracle oracle;
  oracle.Know(prompt_, expected);
  for (Drafter* drafter : {alike.get(), static_cast<Drafter*>(&oracle)}) {
    options.draft.drafter = drafter;
    const Generation out = Answer(session, prompt_, options);
    EXPECT_EQ(out.tokens, expected);
    EXPECT_GT(out.n_drafted, 20);
    if (drafter == &oracle) {
      EXPECT_EQ(out.n_accepted, out.n_drafted);
    }
  }
}

// A draft model's vocabulary may be padded further.
TEST_F(SpeculativeTest, GuessesOutsideTheVocabularyAreDropped) {
  GenerateOptions options = Options(0, 20);
  Session session(ctx_, *target_.model, *target_.tokenizer, 64);
  const auto expected = Answer(session, prompt_, options).tokens;
  const TokenId outside = static_cast<TokenId>(target_.model->config().vocab_size);
  Parrot parrot({expected[1], outside, expected[1]});
  options.draft.drafter = &parrot;
  const Generation out = Answer(session, prompt_, options);
  EXPECT_EQ(out.tokens, expected);
  EXPECT_GE(out.n_accepted, 1);
  EXPECT_LT(out.n_drafted, 20);  // one at a time
}

TEST_F(SpeculativeTest, LimitsAreKept) {
  GenerateOptions options = Options(0, 50);
  Session session(ctx_, *target_.model, *target_.tokenizer, 512);
  Oracle oracle;
  oracle.Know(prompt_, Answer(session, prompt_, options).tokens);
  options.draft = {.drafter = &oracle, .max = 5};
  EXPECT_GT(Answer(session, prompt_, options).n_drafted, 30);
  EXPECT_EQ(oracle.largest(), 5);
  options.draft.max = 1000;
  EXPECT_GT(Answer(session, prompt_, options).n_drafted, 30);
  EXPECT_EQ(oracle.largest(), DraftOptions::kMost);
  options.draft = {.drafter = &oracle, .min = 6, .max = 5};
  EXPECT_EQ(Answer(session, prompt_, options).n_drafted, 0);

  options.draft = {.drafter = &oracle, .min = 6};
  EXPECT_GT(Answer(session, prompt_, options).n_drafted, 30);

  // No more than three at a time while guesses go wrong.
  Oracle wrong(1);
  wrong.Know(prompt_, Answer(session, prompt_, Options(0, 50)).tokens);
  options.draft = {.drafter = &wrong};
  EXPECT_EQ(Answer(session, prompt_, options).n_drafted, 3 * 46 + 2 + 1);
  EXPECT_EQ(wrong.largest(), 3);
}

// The 99.9 % quantile of chi-square (Wilson and Hilferty 1931).
double Quantile(double degrees) {
  const double c = 2 / (9 * degrees);
  return degrees * std::pow(1 - c + 3.09 * std::sqrt(c), 3);
}

// Probabilities of all continuations of `n` tokens, from the model and the sampler's filters alone.
void Continuations(CachedModel& model, const SamplingParams& params, std::vector<TokenId> history, int n,
                   double p, std::vector<TokenId> tokens, std::map<std::vector<TokenId>, double>& out) {
  if (n == 0) {
    out[tokens] = p;
    return;
  }
  const Tensor logits = model.Read(history);
  Sampler sampler(params);
  const auto span = sampler.Distribution({logits.data(), static_cast<size_t>(logits.cols())}, history);
  const std::vector<Candidate> candidates(span.begin(), span.end());
  for (const Candidate& c : candidates) {
    history.push_back(c.id), tokens.push_back(c.id);
    Continuations(model, params, history, n - 1, p * c.p, tokens, out);
    history.pop_back(), tokens.pop_back();
  }
}

// What is rare is counted as one.
void ExpectFrequencies(const std::map<std::vector<TokenId>, int>& counts,
                       const std::map<std::vector<TokenId>, double>& expected, int n_runs) {
  for (const auto& [tokens, count] : counts) {
    EXPECT_TRUE(expected.contains(tokens)) << count << " times what cannot be";
  }
  double chi2 = 0, degrees = -1, rest = 0, rest_seen = 0;
  const auto add = [&](double seen, double wanted) {
    chi2 += (seen - wanted) * (seen - wanted) / wanted;
    ++degrees;
  };
  for (const auto& [tokens, p] : expected) {
    const auto found = counts.find(tokens);
    const double seen = found == counts.end() ? 0 : found->second, wanted = p * n_runs;
    if (wanted >= 5) {
      add(seen, wanted);
    } else {
      rest += wanted, rest_seen += seen;
    }
  }
  if (rest > 0) add(rest_seen, rest);
  EXPECT_LT(chi2, Quantile(degrees)) << degrees << " degrees of freedom";
}

TEST_F(SpeculativeTest, TheDistributionIsTheTargets) {
  constexpr int kTokens = 3, kRuns = 3000;
  SamplingParams params{.temperature = 1.5, .top_k = 4, .top_p = 1, .min_p = 0, .repeat_penalty = 1.5};
  const std::vector<TokenId> prompt = Ids("ababab");
  CachedModel model(ctx_, *target_.model, 64);
  std::map<std::vector<TokenId>, double> expected;
  Continuations(model, params, prompt, kTokens, 1, {}, expected);
  ASSERT_EQ(expected.size(), 64u);

  // The likeliest continuation of the likeliest token, guessed whatever came.
  Session greedy(ctx_, *target_.model, *target_.tokenizer, 64);
  const std::vector<TokenId> likely = Answer(greedy, prompt, Options(0, kTokens)).tokens;
  Parrot parrot({likely.begin() + 1, likely.end()});
  const auto alike = DraftModel(target_, 64);
  Nearsighted nearsighted(alike.get());
  for (Drafter* drafter : {static_cast<Drafter*>(nullptr), static_cast<Drafter*>(&nearsighted),
                           static_cast<Drafter*>(&parrot)}) {
    Session session(ctx_, *target_.model, *target_.tokenizer, 64);
    std::map<std::vector<TokenId>, int> counts;
    int64_t accepted = 0, drafted = 0;
    for (int run = 0; run < kRuns; ++run) {
      GenerateOptions options{.max_tokens = kTokens + 1, .ignore_eos = true, .sampling = params};
      options.sampling.seed = static_cast<uint64_t>(run);
      options.draft.drafter = drafter;
      Generation out = Answer(session, prompt, options);
      out.tokens.resize(kTokens);
      ++counts[out.tokens];
      accepted += out.n_accepted;
      drafted += out.n_drafted;
    }
    ExpectFrequencies(counts, expected, kRuns);
    if (drafter == nullptr) continue;
    EXPECT_GT(drafted, kRuns);
    EXPECT_GT(accepted, kRuns / 20);
    EXPECT_LT(accepted, drafted - kRuns / 20);
  }
}

}  // namespace
}  // namespace thimble
