#include "eval/text_scores.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string_view>
#include <unordered_map>

#include "base/check.h"
#include "base/random.h"
#include "text/jinja_text.h"

namespace thimble {
namespace {

using jinja::IsSpace;

constexpr int kResamples = 1000;
constexpr size_t kWordOrder = 4, kCharOrder = 6;
constexpr double kBeta = 2;  // recall counts twice as much as precision

bool IsDigit(char32_t c) {
  return c >= U'0' && c <= U'9';
}
bool IsPoint(char32_t c) {
  return c == U'.' || c == U',';
}

std::u32string Decode(std::string_view text) {
  const std::vector<char32_t> points = jinja::CodePoints(jinja::ToValidUtf8(text));
  return {points.begin(), points.end()};
}

void ReplaceAll(std::u32string& text, std::u32string_view from, std::u32string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::u32string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

// Every two characters in a row that `first` and `second` hold for become `form`: 1, 2 and spaces.
std::u32string Space(const std::u32string& text, const std::function<bool(char32_t)>& first,
                     const std::function<bool(char32_t)>& second, const char32_t* form) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && first(text[i]) && second(text[i + 1])) {
      for (const char32_t* f = form; *f != 0; ++f) {
        out += *f == U'1' ? text[i] : *f == U'2' ? text[i + 1] : U' ';
      }
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

// mteval-v13a's, as sacreBLEU has it: punctuation stands alone, but for points and commas between digits and
// hyphens that do not follow one.
std::vector<std::u32string> Tokenize13a(const std::string& line) {
  std::u32string text = Decode(line);
  while (!text.empty() && IsSpace(text.back())) text.pop_back();
  ReplaceAll(text, U"<skipped>", U"");
  ReplaceAll(text, U"-\n", U"");
  ReplaceAll(text, U"\n", U" ");
  ReplaceAll(text, U"&quot;", U"\"");
  ReplaceAll(text, U"&amp;", U"&");
  ReplaceAll(text, U"&lt;", U"<");
  ReplaceAll(text, U"&gt;", U">");
  std::u32string spaced = U" ";
  for (const char32_t c : text) {
    const bool alone = (c >= U'{' && c <= U'~') || (c >= U'[' && c <= U'`') || (c >= U' ' && c <= U'&') ||
                       (c >= U'(' && c <= U'+') || (c >= U':' && c <= U'@') || c == U'/';
    if (alone) spaced += U' ';
    spaced += c;
    if (alone) spaced += U' ';
  }
  spaced += U' ';
  const auto other = [](char32_t c) { return !IsDigit(c); };
  spaced = Space(spaced, other, IsPoint, U"1 2 ");
  spaced = Space(spaced, IsPoint, other, U" 1 2");
  spaced = Space(
      spaced, IsDigit, [](char32_t c) { return c == U'-'; }, U"1 2 ");
  std::vector<std::u32string> tokens(1);
  for (const char32_t c : spaced) {
    if (!IsSpace(c)) {
      tokens.back() += c;
    } else if (!tokens.back().empty()) {
      tokens.emplace_back();
    }
  }
  if (tokens.back().empty()) tokens.pop_back();
  return tokens;
}

// How often each n-gram occurs.
using Counts = std::unordered_map<std::u32string_view, int64_t>;
Counts CountNgrams(std::u32string_view units, size_t n) {
  Counts counts;
  for (size_t i = 0; i + n <= units.size(); ++i) ++counts[units.substr(i, n)];
  return counts;
}

struct Overlap {
  int64_t got = 0, expected = 0, both = 0;
  void Add(const Overlap& o) {
    got += o.got;
    expected += o.expected;
    both += o.both;
  }
};

Overlap OverlapOf(std::u32string_view got, std::u32string_view expected, size_t n) {
  const Counts a = CountNgrams(got, n), b = CountNgrams(expected, n);
  Overlap overlap;
  for (const auto& [ngram, count] : a) {
    overlap.got += count;
    if (const auto found = b.find(ngram); found != b.end()) overlap.both += std::min(count, found->second);
  }
  for (const auto& [ngram, count] : b) overlap.expected += count;
  return overlap;
}

// What a pair adds to the set's sums.
struct Statistics {
  std::array<Overlap, kWordOrder> words;
  std::array<Overlap, kCharOrder> chars;
  size_t got = 0, expected = 0;  // classes; got may be none of those expected
  void Add(const Statistics& s) {
    for (size_t i = 0; i < kWordOrder; ++i) words[i].Add(s.words[i]);
    for (size_t i = 0; i < kCharOrder; ++i) chars[i].Add(s.chars[i]);
  }
};

double Bleu(const std::array<Overlap, kWordOrder>& words) {
  const bool any = std::ranges::any_of(words, [](const Overlap& o) { return o.both > 0; });
  if (!any) return 0;
  double logs = 0, smooth = 1;
  for (const Overlap& o : words) {
    if (o.got == 0) return 0;
    // Chen & Cherry 2014, method 3.
    const double precision = o.both > 0 ? static_cast<double>(o.both) : 1 / (smooth *= 2);
    logs += std::log(precision / static_cast<double>(o.got)) / kWordOrder;
  }
  const double got = static_cast<double>(words[0].got), expected = static_cast<double>(words[0].expected);
  return 100 * std::exp(logs + std::min(0.0, 1 - expected / got));
}

double Chrf(const std::array<Overlap, kCharOrder>& chars) {
  double precision = 0, recall = 0;
  int orders = 0;
  for (const Overlap& o : chars) {
    if (o.got == 0 || o.expected == 0) continue;
    precision += static_cast<double>(o.both) / static_cast<double>(o.got);
    recall += static_cast<double>(o.both) / static_cast<double>(o.expected);
    ++orders;
  }
  if (precision + recall == 0) return 0;
  return 100 * (1 + kBeta * kBeta) * precision * recall / (kBeta * kBeta * precision + recall) / orders;
}

// Sums over a set of pairs, of which some may be in it more than once.
class Sums {
 public:
  explicit Sums(size_t n_classes) : classes_(n_classes) {}
  void Add(const Statistics& s) {
    sum_.Add(s);
    ++classes_[s.expected].expected;
    if (s.got < classes_.size()) ++classes_[s.got].got;
    if (s.got == s.expected) ++classes_[s.got].both;
  }
  double bleu() const { return Bleu(sum_.words); }
  double chrf() const { return Chrf(sum_.chars); }
  double macro_f1() const {
    double sum = 0;
    int64_t n = 0;
    for (const Overlap& o : classes_) {
      if (o.expected == 0) continue;
      sum += 2 * static_cast<double>(o.both) / static_cast<double>(o.got + o.expected);
      ++n;
    }
    return 100 * sum / static_cast<double>(n);
  }

 private:
  Statistics sum_;
  std::vector<Overlap> classes_;
};

Interval Percentiles(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t cut = values.size() / 40;
  return {values[cut], values[values.size() - 1 - cut]};
}

}  // namespace

TextScores ScoreTexts(const std::vector<TextPair>& pairs, uint64_t seed) {
  CHECK(!pairs.empty());
  std::unordered_map<std::u32string, char32_t> words;
  const auto word_ids = [&](const std::string& text) {
    std::u32string ids;
    for (std::u32string& token : Tokenize13a(text)) {
      ids += words.emplace(std::move(token), static_cast<char32_t>(words.size())).first->second;
    }
    return ids;
  };
  const auto characters = [](const std::string& text) {
    std::u32string all = Decode(text);
    std::erase_if(all, IsSpace);
    return all;
  };
  std::unordered_map<std::string, size_t> classes;
  for (const TextPair& pair : pairs) classes.emplace(pair.expected, classes.size());
  std::vector<Statistics> statistics;
  for (const TextPair& pair : pairs) {
    Statistics s;
    const std::u32string got_words = word_ids(pair.got), expected_words = word_ids(pair.expected);
    for (size_t n = 0; n < kWordOrder; ++n) s.words[n] = OverlapOf(got_words, expected_words, n + 1);
    const std::u32string got = characters(pair.got), expected = characters(pair.expected);
    for (size_t n = 0; n < kCharOrder; ++n) {
      s.chars[n] = OverlapOf(got, expected, n + 1);
      if (s.chars[n].expected == 0) s.chars[n].got = 0;  // as if it had not been said
    }
    const auto found = classes.find(pair.got);
    s.got = found != classes.end() ? found->second : SIZE_MAX;
    s.expected = classes.at(pair.expected);
    statistics.push_back(s);
  }
  Sums all(classes.size());
  for (const Statistics& s : statistics) all.Add(s);
  std::vector<double> bleu, chrf, f1;
  Random random(seed);
  for (int i = 0; i < kResamples; ++i) {
    Sums resampled(classes.size());
    for (size_t j = 0; j < pairs.size(); ++j) resampled.Add(statistics[random.Below(pairs.size())]);
    bleu.push_back(resampled.bleu());
    chrf.push_back(resampled.chrf());
    f1.push_back(resampled.macro_f1());
  }
  return {{all.bleu(), Percentiles(std::move(bleu))},
          {all.chrf(), Percentiles(std::move(chrf))},
          {all.macro_f1(), Percentiles(std::move(f1))}};
}

}  // namespace thimble
