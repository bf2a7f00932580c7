// Scores of answers beside one reference each: what translation and classification are measured by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/interval.h"

namespace thimble {

struct TextPair {
  std::string got, expected;
};

struct TextScore {
  double value = 0;        // in percent
  Interval interval = {};  // 95 %: percentiles of resampled sets of pairs (Koehn 2004)
};

struct TextScores {
  TextScore bleu;      // Papineni et al. 2002; as sacreBLEU's nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp
  TextScore chrf;      // Popović 2015; as sacreBLEU's chrF2: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no
  TextScore macro_f1;  // mean of F1 over the different texts that are expected, each taken as a class
};
// Of the whole set, not a mean of single pairs' scores. At least one pair.
TextScores ScoreTexts(const std::vector<TextPair>& pairs, uint64_t seed = 1);

}  // namespace thimble
