// The forward pass against Transformers (tools/make_model_goldens.py), and against itself by other ways.
#include "base/file.h"
#include "model/test_support.h"

namespace thimble {
namespace {

// Transformers' own two ways to compute attention differ by up to 2e-4 on these models.
constexpr float kTolerance = 5e-4f;

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { model_ = GoldenModel(GetParam()); }

  Context On(ThreadPool& pool) const { return {.pool = pool, .compute = Compute::kF32}; }
  Tensor LogitsOf(const Context& ctx, const ForwardInput& input) const {
    return Logits(ctx, *model_, ForwardHidden(ctx, *model_, input));
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_{2};
  Context ctx_ = On(pool_);
};
INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

TEST_P(GoldenTest, LogitsAndGreedyTokensAreTransformers) {
  const Json expected = ReadJsonOrDie(kModelsDirectory + GetParam() + "/expected.json");
  for (const Json& sequence : expected["sequences"]) {
    const auto ids = sequence["ids"].get<std::vector<int32_t>>();
    const Tensor logits = LogitsOf(ctx_, {.tokens = ids});
    for (size_t i = 0; i < sequence["positions"].size(); ++i) {
      const int64_t position = sequence["positions"][i];
      const auto row = sequence["logits"][i].get<std::vector<float>>();
      ASSERT_EQ(static_cast<int64_t>(row.size()), logits.cols());
      EXPECT_LE(LargestDifference(row.data(), logits.row(position), logits.cols()), kTolerance) << position;
    }
    EXPECT_EQ(TopIds(logits.row(logits.rows() - 1), logits.cols(), 10),
              sequence["top10"]["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(Greedy(ctx_, *model_, ids, 16), sequence["greedy"].get<std::vector<int32_t>>());
  }
}

TEST_P(GoldenTest, CacheInPiecesEqualsTheWhole) {
  const auto ids = RandomIds(45, model_->config().vocab_size, 1);
  const Tensor whole = LogitsOf(ctx_, {.tokens = ids});
  for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{45}, {1, 1, 40, 3}, {13, 32}}) {
    KvCache cache(model_->config(), 50, kF32Cache);
    int64_t done = 0;
    for (const int64_t n : pieces) {
      const Tensor part =
          LogitsOf(ctx_, {.tokens = std::span(ids).subspan(static_cast<size_t>(done), static_cast<size_t>(n)),
                          .cache = &cache});
      EXPECT_LE(LargestDifference(part.data(), whole.row(done), part.size()), 5e-5f) << done;
      done += n;
    }
    EXPECT_EQ(cache.length(), 45);
    cache.Truncate(20);  // and go on from there once more
    const Tensor again = LogitsOf(ctx_, {.tokens = std::span(ids).subspan(20), .cache = &cache});
    EXPECT_LE(LargestDifference(again.data(), whole.row(20), again.size()), 5e-5f);
  }
}

// Each type as near to F32 as its step is small, in whichever pieces a prompt is read.
TEST_P(GoldenTest, CacheTypesStayNearF32) {
  const auto ids = RandomIds(90, model_->config().vocab_size, 1);
  const Tensor whole = LogitsOf(ctx_, {.tokens = ids});
  const auto difference = [&](KvTypes types, std::initializer_list<size_t> pieces) {
    KvCache cache(model_->config(), 90, types);
    size_t done = 0;
    float largest = 0;
    for (const size_t n : pieces) {
      const Tensor part = LogitsOf(ctx_, {.tokens = std::span(ids).subspan(done, n), .cache = &cache});
      largest = std::max(largest,
                         LargestDifference(part.data(), whole.row(static_cast<int64_t>(done)), part.size()));
      done += n;
    }
    return largest;
  };
  const std::pair<WeightType, float> bounds[] = {{WeightType::kF32, 5e-5f},
                                                 {WeightType::kF16, 0.03f},
                                                 {WeightType::kQ8_0, 0.3f},
                                                 {WeightType::kQ4_0, 5.0f}};
  for (const auto& [type, bound] : bounds) {
    for (const KvTypes types : {KvTypes{type, WeightType::kF32}, KvTypes{WeightType::kF32, type}}) {
      if (!KvCache::Check(model_->config(), types)) continue;
      SCOPED_TRACE(testing::Message() << Name(types.k) << ", " << Name(types.v));
      EXPECT_LE(difference(types, {90}), bound);
      EXPECT_LE(difference(types, {60, 1, 19, 10}), bound);
      EXPECT_EQ(difference(types, {90}) > 1e-4f, type != WeightType::kF32);
    }
  }
}

TEST_P(GoldenTest, CacheTakesMemoryAsItGrows) {
  const ModelConfig& c = model_->config();
  const auto ids = RandomIds(kKeyBlock + 1, c.vocab_size, 1);
  KvCache cache(c, 1 << 20);
  EXPECT_EQ(cache.bytes(), 0u);
  LogitsOf(ctx_, {.tokens = std::span(ids).first(1), .cache = &cache});
  EXPECT_EQ(cache.bytes(), kKeyBlock * KvCache::BytesPerToken(c, {}));
  LogitsOf(ctx_, {.tokens = std::span(ids).subspan(1), .cache = &cache});
  EXPECT_EQ(cache.bytes(), 2 * kKeyBlock * KvCache::BytesPerToken(c, {}));
  cache.Truncate(0);
  EXPECT_EQ(cache.bytes(), 2 * kKeyBlock * KvCache::BytesPerToken(c, {}));
  const size_t numbers = static_cast<size_t>(2 * c.n_layers * c.n_kv_heads * c.head_dim);
  EXPECT_EQ(KvCache::BytesPerToken(c, {}), numbers * 2);
  EXPECT_EQ(KvCache::BytesPerToken(c, kF32Cache), numbers * 4);
}

TEST_P(GoldenTest, PackedSequencesDoNotSeeEachOther) {
  const std::vector<int64_t> lengths{7, 1, 19};
  const auto ids = RandomIds(27, model_->config().vocab_size, 2);
  const Tensor packed = LogitsOf(ctx_, {.tokens = ids, .lengths = lengths});
  int64_t begin = 0;
  for (const int64_t n : lengths) {
    const Tensor alone = LogitsOf(
        ctx_, {.tokens = std::span(ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(n))});
    EXPECT_LE(LargestDifference(alone.data(), packed.row(begin), alone.size()), 5e-5f) << begin;
    begin += n;
  }
}

TEST_P(GoldenTest, ThreadsDoNotChangeResults) {
  const auto ids = RandomIds(33, model_->config().vocab_size, 3);
  ThreadPool one(1), five(5);
  for (const Compute compute : {Compute::kF32, Compute::kInt8}) {
    Context a = On(one), b = On(five);
    a.compute = b.compute = compute;
    EXPECT_EQ(Values(LogitsOf(a, {.tokens = ids})), Values(LogitsOf(b, {.tokens = ids})));
  }
}

// Two sequences, every token predicted by the one before it. With `gradients`, those of all adapter tensors.
double Loss(Context ctx, const Model& model, const Adapter& adapter, const std::vector<int32_t>& ids,
            bool checkpoint, float dropout, std::vector<std::vector<float>>* gradients) {
  Tape tape;
  if (gradients != nullptr) ctx.tape = &tape;
  const auto tensors = TensorsOf(adapter);
  for (const Tensor& t : tensors) {
    t.set_requires_grad(true);
    t.ZeroGrad();
  }
  std::vector<int32_t> labels(ids.begin() + 1, ids.end());
  labels.push_back(-1);
  labels[ids.size() - 11] = -1;
  const std::vector<int64_t> lengths{static_cast<int64_t>(ids.size()) - 10, 10};
  const AppliedAdapter applied{.adapter = &adapter, .scale = 1, .dropout = dropout, .seed = 7};
  const Tensor hidden = ForwardHidden(
      ctx, model, {.tokens = ids, .lengths = lengths, .adapters = {&applied, 1}, .checkpoint = checkpoint});
  const double loss = LinearCrossEntropy(ctx, model.output(), hidden, labels).mean_loss;
  if (gradients == nullptr) return loss;
  tape.Backward();
  gradients->clear();
  for (const Tensor& t : tensors) gradients->emplace_back(t.grad(), t.grad() + t.size());
  return loss;
}

TEST_P(GoldenTest, CheckpointedTrainingIsTheSame) {
  const auto ids = RandomIds(40, model_->config().vocab_size, 4);
  for (const int every :
       {1, 3, 11}) {  // with every layer adapted, with some halves and with whole layers left out
    const Adapter adapter = RandomAdapter(*model_, 4, 5, every);
    std::vector<std::vector<float>> plain, again;
    EXPECT_EQ(Loss(ctx_, *model_, adapter, ids, false, 0.2f, &plain),
              Loss(ctx_, *model_, adapter, ids, true, 0.2f, &again));
    EXPECT_EQ(plain, again);
  }
}

TEST_P(GoldenTest, ThreadsDoNotChangeGradients) {
  const auto ids = RandomIds(40, model_->config().vocab_size, 4);
  const Adapter adapter = RandomAdapter(*model_, 4, 5);
  ThreadPool one(1), three(3);
  std::vector<std::vector<float>> a, b;
  EXPECT_EQ(Loss(On(one), *model_, adapter, ids, false, 0, &a),
            Loss(On(three), *model_, adapter, ids, false, 0, &b));
  EXPECT_EQ(a, b);
}

// The ops are checked one by one in double precision (ops/*_test.cc); here, that the model joins them
// rightly: along each tensor's own gradient, the loss must change as the gradient says. F32 leaves about
// three digits.
TEST_P(GoldenTest, LossChangesAsTheGradientSays) {
  const auto ids = RandomIds(40, model_->config().vocab_size, 4);
  const Adapter adapter = RandomAdapter(*model_, 4, 5);
  ThreadPool one(1);
  std::vector<std::vector<float>> gradients;
  Loss(On(one), *model_, adapter, ids, false, 0, &gradients);
  const auto tensors = TensorsOf(adapter);
  for (size_t t = 0; t < tensors.size(); ++t) {
    double squares = 0;
    for (const float g : gradients[t]) squares += static_cast<double>(g) * g;
    const double norm = std::sqrt(squares);
    ASSERT_GT(norm, 1e-6) << t;
    const auto before = Values(tensors[t]);
    const auto loss_at = [&](double step) {
      for (size_t i = 0; i < before.size(); ++i) {
        tensors[t].data()[i] = static_cast<float>(before[i] + step * gradients[t][i] / norm);
      }
      return Loss(On(one), *model_, adapter, ids, false, 0, nullptr);
    };
    const double step = std::min(0.05, 0.02 / norm);
    const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
    std::copy(before.begin(), before.end(), tensors[t].data());
    EXPECT_NEAR(slope, norm, 0.01 * norm + 2e-5) << "tensor " << t;
  }
}

TEST_P(GoldenTest, AdaptersAddUpWithTheirScales) {
  const auto ids = RandomIds(12, model_->config().vocab_size, 4);
  const Adapter first = RandomAdapter(*model_, 4, 5), second = RandomAdapter(*model_, 2, 6, 2);
  const AppliedAdapter off[] = {{.adapter = &first, .scale = 0}};
  const AppliedAdapter both[] = {{.adapter = &first, .scale = 0.5f}, {.adapter = &second, .scale = 2}};
  const AppliedAdapter swapped[] = {both[1], both[0]};
  const AppliedAdapter one[] = {both[0]};
  const Tensor base = LogitsOf(ctx_, {.tokens = ids});
  EXPECT_EQ(Values(base), Values(LogitsOf(ctx_, {.tokens = ids, .adapters = off})));
  const Tensor a = LogitsOf(ctx_, {.tokens = ids, .adapters = both});
  const Tensor b = LogitsOf(ctx_, {.tokens = ids, .adapters = swapped});
  const Tensor c = LogitsOf(ctx_, {.tokens = ids, .adapters = one});
  EXPECT_LE(LargestDifference(a.data(), b.data(), a.size()), 1e-4f);
  EXPECT_GT(LargestDifference(a.data(), c.data(), a.size()), 0.01f);
  EXPECT_GT(LargestDifference(base.data(), c.data(), c.size()), 0.01f);
}

// Whose header does not end where a float may begin: others than PyTorch write such files.
TEST(Forward, OfAFileWhoseTensorsAreNotAligned) {
  const TemporaryFolder folder;
  std::filesystem::copy(kModelsDirectory + "llama_bias_tied", folder / "",
                        std::filesystem::copy_options::recursive);
  const std::string path = folder / "model.safetensors";
  std::string bytes = *ReadFile(path, 1 << 24);
  bytes.insert(sizeof(uint64_t) + static_cast<unsigned char>(bytes[0]) +
                   256 * static_cast<size_t>(static_cast<unsigned char>(bytes[1])),
               1, ' ');
  ++bytes[0];
  ASSERT_NE(bytes[0], 0);
  ASSERT_TRUE(WriteFileAtomically(path, bytes));
  ThreadPool pool(2);
  const auto logits = [&](const std::string& where) {
    const auto model = LoadModelOrDie(where);
    const Context ctx{.pool = pool};
    const auto ids = RandomIds(12, model->config().vocab_size, 4);
    return Values(Logits(ctx, *model, ForwardHidden(ctx, *model, {.tokens = ids})));
  };
  EXPECT_EQ(logits(folder / ""), logits(kModelsDirectory + "llama_bias_tied"));
}

}  // namespace
}  // namespace thimble
