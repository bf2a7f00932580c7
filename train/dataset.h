// Training data: JSONL to token sequences with labels, and batches of them.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace thimble {

// One sequence. labels[i] is the token that position i must predict, or -1 where nothing is learned.
struct Example {
  std::vector<TokenId> tokens;
  std::vector<TokenId> labels;  // same length
};

// A line of each form becomes one example (a chat more than one if its template rewrites earlier turns):
//   {"text": ...}                     every token is learned
//   {"prompt": ..., "completion": ...} the completion and the end-of-sequence token are learned
//   {"messages": [...], "tools": ...}  assistant turns are learned, as the model's chat template writes them,
//   up
//                                      to the token that ends the turn
struct DatasetOptions {
  int64_t max_seq_length = 512;  // longer examples lose their end
};

struct Dataset {
  std::vector<Example> examples;
  int64_t n_truncated = 0;
  int64_t n_dropped = 0;  // with nothing to learn, e.g. once truncated
  int64_t n_tokens = 0, n_labels = 0;
};

// `chat_template` may be null if no line has messages. Errors name the file and the line.
Result<Dataset> LoadDataset(const std::string& path, const Tokenizer& tokenizer,
                            const ChatTemplate* chat_template, const DatasetOptions& options);

// The prompt of a chat line without its last assistant turn, and that turn's text: what exact-match scoring
// needs.
struct PromptAndAnswer {
  std::vector<TokenId> prompt;
  std::string answer;
};
Result<std::vector<PromptAndAnswer>> LoadPrompts(const std::string& path, const Tokenizer& tokenizer,
                                                 const ChatTemplate* chat_template);

// Sequences one after another, for ForwardInput.
struct TrainBatch {
  std::vector<TokenId> tokens, labels;
  std::vector<int64_t> lengths;
  int64_t n_labels() const;
};
TrainBatch MakeBatch(const std::vector<const Example*>& examples);

// Deals an epoch's examples into batches: shuffled by the seed, `batch_size` examples each, or with packing
// as many as fit into batch_size rows of max_seq_length tokens. Examples never see each other either way, and
// nothing is padded.
std::vector<std::vector<const Example*>> DealBatches(const Dataset& dataset, int64_t batch_size, bool pack,
                                                     int64_t max_seq_length, uint64_t seed);

}  // namespace thimble
