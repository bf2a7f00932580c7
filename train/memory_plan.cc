#include "train/memory_plan.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/memory.h"

namespace thimble {
namespace {

constexpr int64_t kShort = 16, kLong = 48;  // tokens

// Tokens of the largest batch that may be dealt, or of a rank's part of it, with what stands before each of
// its sequences but the first.
int64_t LargestBatch(const Dataset& data, const TrainOptions& o, int64_t n_ranks, int64_t n_before_each) {
  std::vector<int64_t> lengths;
  for (const Example& example : data.examples) lengths.push_back(std::ssize(example.tokens));
  const auto n = std::min(o.batch_size, std::ssize(lengths));
  std::partial_sort(lengths.begin(), lengths.begin() + n, lengths.end(), std::greater<>());
  // Packed sequences are counted as if all were as long as their mean.
  const int64_t capacity = std::min(data.n_tokens, o.batch_size * o.max_seq_length),
                n_sequences =
                    o.pack ? capacity * std::ssize(lengths) / std::max<int64_t>(1, data.n_tokens) : n;
  const int64_t largest =
      o.pack ? capacity : std::accumulate(lengths.begin(), lengths.begin() + n, int64_t{0});
  // Parts differ by an example's tokens at most.
  const int64_t part = n_ranks == 1 ? largest : std::min(largest, largest / n_ranks + lengths[0]);
  return part + std::max<int64_t>(0, n_sequences / n_ranks - 1) * n_before_each;
}

}  // namespace

MemoryPlan PlanMemory(Trainer& trainer, const Dataset& data, const TrainOptions& options) {
  const int64_t n = LargestBatch(data, options, trainer.n_ranks(), trainer.n_virtual_tokens());
  struct Uses {
    Trainer::TensorUse few, more;
  };
  const auto measure = [&](bool checkpoint) {
    return Uses{trainer.MeasureTensors(kShort, checkpoint), trainer.MeasureTensors(kLong, checkpoint)};
  };
  const auto of_largest = [&](const Uses& uses) {
    const auto grown = [&](int64_t short_bytes, int64_t long_bytes) {
      return long_bytes + (long_bytes - short_bytes) * std::max<int64_t>(0, n - kLong) / (kLong - kShort);
    };
    return std::max(grown(uses.few.most, uses.more.most),
                    grown(uses.few.at_loss, uses.more.at_loss) + trainer.LogitsBytes(n));
  };
  trainer.set_integer_gradients(options.integer_gradients);
  const int64_t integer_gradients = trainer.IntegerGradientBytes(n);
  trainer.set_integer_gradients(false);
  trainer.MeasureTensors(kShort, true);  // the parameters' gradients are there from now on
  const Uses checkpointed = measure(true), plain = measure(false);
  const int64_t rest = PeakRssBytes() - plain.more.most;
  return {rest + of_largest(plain), rest + of_largest(checkpointed), integer_gradients};
}

}  // namespace thimble
