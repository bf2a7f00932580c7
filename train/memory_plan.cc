#include "train/memory_plan.h"

#include <sys/resource.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace thimble {
namespace {

constexpr int64_t kShort = 16, kLong = 48;  // tokens

// Tokens of the largest batch that may be dealt.
int64_t LargestBatch(const Dataset& data, const TrainOptions& o) {
  if (o.pack) return std::min(data.n_tokens, o.batch_size * o.max_seq_length);
  std::vector<int64_t> lengths;
  for (const Example& example : data.examples) lengths.push_back(std::ssize(example.tokens));
  const auto n = std::min(o.batch_size, std::ssize(lengths));
  std::partial_sort(lengths.begin(), lengths.begin() + n, lengths.end(), std::greater<>());
  return std::accumulate(lengths.begin(), lengths.begin() + n, int64_t{0});
}

int64_t PeakResidentBytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

}  // namespace

MemoryPlan PlanMemory(Trainer& trainer, const Dataset& data, const TrainOptions& options,
                      int64_t vocab_size) {
  const int64_t n = LargestBatch(data, options);
  const int64_t logits = std::min(n, kLossRows) * vocab_size * trainer.logits_bytes();
  const auto of_batch = [&](bool checkpoint) {
    const Trainer::TensorUse few = trainer.MeasureTensors(kShort, checkpoint),
                             more = trainer.MeasureTensors(kLong, checkpoint);
    const auto grown = [&](int64_t short_bytes, int64_t long_bytes) {
      return long_bytes + (long_bytes - short_bytes) * std::max<int64_t>(0, n - kLong) / (kLong - kShort);
    };
    return std::max(grown(few.most, more.most), grown(few.at_loss, more.at_loss) + logits);
  };
  trainer.MeasureTensors(kShort, true);  // the parameters' gradients are there from now on
  const int64_t checkpointed = of_batch(true), plain = of_batch(false);
  const int64_t rest = PeakResidentBytes() - trainer.MeasureTensors(kLong, false).most;
  return {rest + plain, rest + checkpointed};
}

}  // namespace thimble
