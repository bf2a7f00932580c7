// SentencePiece's scores and tokenizer.json's merges: two ways to write down the same order of merging.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

// Every way to put a token together from two others, the best score first: the merges that Transformers'
// converter of SentencePiece models writes.
std::vector<std::pair<std::string, std::string>> MergesFromScores(const TokenizerSpec& spec);

// A score per token: minus the place of the first merge that makes it. What no merge makes comes last.
std::vector<float> ScoresFromMerges(const TokenizerSpec& spec);

// Whether ScoresFromMerges loses nothing: the merges hold every split of each token that they make, those of
// one token side by side. So it is for tokenizers that were SentencePiece models once (Llama 2, Gemma).
bool ScoresSayMerges(const TokenizerSpec& spec);

}  // namespace thimble
