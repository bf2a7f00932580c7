// Every method against PEFT (tools/make_peft_train_goldens.py) and against itself.
#include "train/method.h"

#include <gmock/gmock.h>

#include <cmath>
#include <ostream>

#include "model/test_support.h"
#include "train/trainer.h"

namespace thimble {
namespace {

using testing::HasSubstr;

const std::string kGoldens = THIMBLE_SOURCE_DIR "/tests/golden/peft_train/";

std::unique_ptr<Method> CreateOrDie(const Model& model, const PeftOptions& options, uint64_t seed = 1) {
  ThreadPool pool(2);
  auto method = CreateMethod({.pool = pool}, model, options, seed);
  if (!method) {
    ADD_FAILURE() << method.error().message;
    std::abort();
  }
  return std::move(*method);
}

// Sequences that learn all their tokens but the first.
TrainBatch BatchOf(const Json& rows) {
  TrainBatch batch;
  for (const Json& row : rows) {
    const auto ids = row.get<std::vector<int32_t>>();
    batch.tokens.insert(batch.tokens.end(), ids.begin(), ids.end());
    batch.labels.insert(batch.labels.end(), ids.begin() + 1, ids.end());
    batch.labels.push_back(-1);
    batch.lengths.push_back(static_cast<int64_t>(ids.size()));
  }
  return batch;
}

class MethodTest : public testing::Test {
 protected:
  Context ContextOn(ThreadPool& pool) const { return {.pool = pool, .compute = Compute::kF32}; }
  Context ctx() { return ContextOn(pool_); }

  std::vector<float> LogitsWith(const Adapter& adapter) {
    const AppliedAdapter applied[] = {{.adapter = &adapter}};
    return Values(
        Logits(ctx(), *model_, ForwardHidden(ctx(), *model_, {.tokens = ids_, .adapters = applied})));
  }

  std::unique_ptr<Model> model_ = GoldenModel("llama");
  ThreadPool pool_{2};
  TemporaryFolder folder_;
  const std::vector<int32_t> ids_ = RandomIds(9, 272, 3);
  Json golden_ = ReadJsonOrDie(kGoldens + "golden.json");
};

struct Run {
  const char* name;
  PeftOptions options;
};
void PrintTo(const Run& run, std::ostream* out) {
  *out << run.name;
}

std::vector<Run> Runs() {
  return {{"loraplus", {.method = "lora", .rank = 2, .alpha = 3, .loraplus_lr_ratio = 4}},
          {"pissa", {.rank = 2, .alpha = 3, .start = LoraStart::kPissa}},
          {"dora", {.method = "dora", .rank = 2, .alpha = 3}},
          {"vera", {.method = "vera", .rank = 6}},
          {"ia3", {.method = "ia3"}},
          {"bottleneck", {.method = "bottleneck", .bottleneck_size = 4}},
          {"bitfit", {.method = "bitfit"}},
          {"norm-tuning", {.method = "norm-tuning"}},
          {"prompt-tuning", {.method = "prompt-tuning", .n_virtual_tokens = 3}},
          {"prefix-tuning", {.method = "prefix-tuning", .n_virtual_tokens = 3}}};
}

class MethodsTest : public MethodTest, public testing::WithParamInterface<Run> {
 protected:
  static TrainOptions Options() { return {.max_grad_norm = 0}; }

  std::vector<StepResult> Steps(Method& method, const TrainOptions& options, ThreadPool& pool) {
    Trainer trainer(ContextOn(pool), method, options);
    std::vector<StepResult> results;
    for (const Json& rows : golden_["batches"]) {
      results.push_back(trainer.Step({BatchOf(rows)}, golden_["runs"][GetParam().name]["learning_rate"]));
    }
    return results;
  }
};
INSTANTIATE_TEST_SUITE_P(Methods, MethodsTest, testing::ValuesIn(Runs()), [](const auto& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(MethodsTest, LossesAndGradientNormsAreThoseOfPeft) {
  const auto method = CreateOrDie(*model_, GetParam().options);
  const Status loaded = method->Load(kGoldens + GetParam().name);
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Json& run = golden_["runs"][GetParam().name];
  const auto results = Steps(*method, Options(), pool_);
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_NEAR(results[i].loss, run["losses"][i].get<double>(), 1e-3) << i;
    EXPECT_NEAR(results[i].grad_norm, run["grad_norms"][i].get<double>(), 2e-3 * results[i].grad_norm) << i;
  }
}

TEST_P(MethodsTest, CheckpointingAndThreadsDoNotChangeResults) {
  std::vector<std::vector<StepResult>> runs;
  ThreadPool one(1);
  for (const bool checkpoint : {false, true}) {
    const auto method = CreateOrDie(*model_, GetParam().options);
    TrainOptions options = Options();
    options.grad_checkpoint = checkpoint;
    runs.push_back(Steps(*method, options, checkpoint ? one : pool_));
  }
  for (size_t i = 0; i < runs[0].size(); ++i) {
    EXPECT_EQ(runs[0][i].loss, runs[1][i].loss) << i;
    EXPECT_EQ(runs[0][i].grad_norm, runs[1][i].grad_norm) << i;
  }
}

// What is saved runs as what was trained did.
TEST_P(MethodsTest, SavedAdaptersRunAndGoOn) {
  const auto method = CreateOrDie(*model_, GetParam().options);
  Steps(*method, Options(), pool_);
  method->UpdateAdapter(ctx());
  ASSERT_TRUE(method->Save(folder_ / "saved"));
  const auto adapter = LoadAdapter(folder_ / "saved", *model_);
  ASSERT_TRUE(adapter) << adapter.error().message;
  const auto trained = LogitsWith(method->adapter()), saved = LogitsWith(*adapter);
  EXPECT_LE(LargestDifference(trained.data(), saved.data(), static_cast<int64_t>(saved.size())), 1e-4f);
  EXPECT_EQ(adapter->n_virtual(), method->adapter().n_virtual());

  const auto again = CreateOrDie(*model_, GetParam().options, 2);
  const Status loaded = again->Load(folder_ / "saved");
  ASSERT_TRUE(loaded) << loaded.error().message;
  again->UpdateAdapter(ctx());
  EXPECT_EQ(LogitsWith(again->adapter()), trained);
  PeftOptions other = GetParam().options;
  ++other.rank;
  ++other.n_virtual_tokens;
  ++other.bottleneck_size;
  if (other.method == "ia3" || other.method == "bitfit") other.target_modules = {"k_proj"};
  if (other.method == "norm-tuning") other.method = "ia3";
  const Status refused = CreateOrDie(*model_, other)->Load(folder_ / "saved");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("other modules or ranks"));
}

// The batch's sequences see what stands before them, and not each other.
TEST_P(MethodsTest, ABatchIsItsSequences) {
  const auto method = CreateOrDie(*model_, GetParam().options);
  ASSERT_TRUE(method->Load(kGoldens + GetParam().name));
  Trainer trainer(ctx(), *method, Options());
  const Json& rows = golden_["batches"][0];
  double sum = 0;
  for (const Json& row : rows) sum += trainer.Evaluate({BatchOf(Json::array({row}))});
  EXPECT_NEAR(trainer.Evaluate({BatchOf(rows)}), sum / static_cast<double>(rows.size()), 1e-5);
}

// Against torch, and saved as what it began from.
TEST_F(MethodTest, FullFineTuning) {
  for (const char* name : {"llama", "llama_bias_tied", "gemma3_text"}) {
    SCOPED_TRACE(name);
    model_ = GoldenModel(name);
    const auto method = CreateOrDie(*model_, {.method = "full"});
    int64_t n = 0;
    for (const TensorInfo& tensor : model_->file().tensors()) n += tensor.n_elements();
    EXPECT_EQ(method->n_parameters(), n);
    TrainOptions options{.max_grad_norm = 0};
    Trainer trainer(ctx(), *method, options);
    const Json& run = golden_["runs"][std::string("full-") + name];
    for (size_t i = 0; i < golden_["batches"].size(); ++i) {
      const StepResult result = trainer.Step({BatchOf(golden_["batches"][i])}, run["learning_rate"]);
      EXPECT_NEAR(result.loss, run["losses"][i].get<double>(), 1e-3) << i;
      EXPECT_NEAR(result.grad_norm, run["grad_norms"][i].get<double>(), 2e-3 * result.grad_norm) << i;
    }
    ASSERT_TRUE(method->Save(folder_ / name));
    const auto logits_of = [&](const Model& model) {
      return Values(Logits(ctx(), model, ForwardHidden(ctx(), model, {.tokens = ids_})));
    };
    // Of Gemma's norms the file has the difference from 1, which rounds those below one half.
    const auto expect_same = [&](const Model& model) {
      const auto got = logits_of(model), want = logits_of(method->model());
      EXPECT_LE(LargestDifference(got.data(), want.data(), static_cast<int64_t>(got.size())),
                std::string(name) == "gemma3_text" ? 1e-4f : 0);
    };
    expect_same(*LoadModelOrDie(folder_ / name));
    const auto again = CreateOrDie(*model_, {.method = "full"});
    EXPECT_NE(logits_of(again->model()), logits_of(method->model()));
    ASSERT_TRUE(again->Load(folder_ / name));
    expect_same(again->model());
  }
}

TEST_F(MethodTest, NewLora) {
  const auto adapter_of = [&](bool rslora, uint64_t seed) {
    return CreateOrDie(*model_, {.rank = 4, .alpha = 8, .rslora = rslora}, seed)->adapter();
  };
  const Adapter adapter = adapter_of(false, 3);
  for (const Tensor& t : TensorsOf(adapter)) {
    const bool is_b = t.cols() == 4;
    const double bound = 1 / std::sqrt(static_cast<double>(t.cols()));
    double squares = 0;
    for (const float v : Values(t)) {
      EXPECT_LE(std::fabs(v), is_b ? 0 : bound);
      squares += v * v;
    }
    if (!is_b) {
      EXPECT_NEAR(squares / static_cast<double>(t.size()), bound * bound / 3, 0.2 * bound * bound / 3);
    }
  }
  EXPECT_EQ(adapter.layers[0][0].scale, 2);
  EXPECT_EQ(adapter_of(true, 3).layers[0][0].scale, 4);
  EXPECT_EQ(Values(adapter_of(true, 3).layers[1][3].a), Values(adapter.layers[1][3].a));
  EXPECT_NE(Values(adapter_of(false, 4).layers[1][3].a), Values(adapter.layers[1][3].a));
}

// Before its first step, a method that starts from the model as it is changes nothing.
TEST_F(MethodTest, FirstStepsStartFromTheModel) {
  const auto plain = Values(Logits(ctx(), *model_, ForwardHidden(ctx(), *model_, {.tokens = ids_})));
  for (const char* name : {"lora", "dora", "vera", "ia3", "bottleneck", "bitfit", "norm-tuning"}) {
    const auto method = CreateOrDie(*model_, {.method = name});
    method->UpdateAdapter(ctx());
    const auto logits = LogitsWith(method->adapter());
    EXPECT_LE(LargestDifference(logits.data(), plain.data(), static_cast<int64_t>(plain.size())), 1e-5f)
        << name;
  }
}

// What it starts from is taken out of the model, so that nothing changes before the first step; then the
// largest part of each weight learns.
TEST_F(MethodTest, PissaStartsFromTheModelAndGoesOn) {
  const PeftOptions options{.rank = 4, .alpha = 6, .start = LoraStart::kPissa};
  const auto method = CreateOrDie(*model_, options);
  const auto plain = Values(Logits(ctx(), *model_, ForwardHidden(ctx(), *model_, {.tokens = ids_})));
  auto logits = LogitsWith(method->adapter());
  EXPECT_LE(LargestDifference(logits.data(), plain.data(), static_cast<int64_t>(plain.size())), 1e-4f);
  EXPECT_EQ(method->n_parameters(), CreateOrDie(*model_, {.rank = 4})->n_parameters());
  const TrainOptions train{.max_grad_norm = 0};
  Trainer trainer(ctx(), *method, train);
  for (int step = 0; step < 3; ++step) trainer.Step({BatchOf(golden_["batches"][0])}, 1e-3);
  method->UpdateAdapter(ctx());
  logits = LogitsWith(method->adapter());
  EXPECT_GT(LargestDifference(logits.data(), plain.data(), static_cast<int64_t>(plain.size())), 1e-2f);
  ASSERT_TRUE(method->Save(folder_ / "saved"));
  const auto adapter = LoadAdapter(folder_ / "saved", *model_);
  ASSERT_TRUE(adapter) << adapter.error().message;
  EXPECT_EQ(adapter->layers[0][0].a.rows(), 8);
  const auto saved = LogitsWith(*adapter);
  EXPECT_LE(LargestDifference(logits.data(), saved.data(), static_cast<int64_t>(saved.size())), 1e-4f);
  const auto again = CreateOrDie(*model_, options, 2);
  ASSERT_TRUE(again->Load(folder_ / "saved"));
  again->UpdateAdapter(ctx());
  EXPECT_EQ(LogitsWith(again->adapter()), logits);
}

// The two factors' gradients are those of the model's weights, taken through them: of LoRA with the same
// factors beside a weight without them. By differences, since no adapter can say that.
TEST_F(MethodTest, PissaLearnsWithTheGradientsOfItsFactors) {
  const TrainOptions train{.max_grad_norm = 0};
  const TrainBatch batch = BatchOf(golden_["batches"][0]);
  const PeftOptions options{.rank = 4, .alpha = 4, .start = LoraStart::kPissa};
  const auto method = CreateOrDie(*model_, options), stepped = CreateOrDie(*model_, options);
  Trainer probe(ctx(), *method, train), trainer(ctx(), *stepped, train);
  trainer.Step({batch}, 1e-3);
  int n_checked = 0;
  for (const size_t which : {0, 1}) {
    float* const values = method->parameters()[which].value.data();
    for (const int64_t i : {0, 5, 77, 130}) {
      const float kept = values[i], h = 1e-2f;
      values[i] = kept + h;
      const double up = probe.Evaluate({batch});
      values[i] = kept - h;
      const double down = probe.Evaluate({batch});
      values[i] = kept;
      if (std::fabs(up - down) < 1e-4) continue;
      // AdamW's first step is the rate against the gradient's sign.
      const float moved = stepped->parameters()[which].value.data()[i] - kept;
      EXPECT_NEAR(moved, up > down ? -1e-3 : 1e-3, 1e-5) << which << " " << i;
      ++n_checked;
    }
  }
  EXPECT_GE(n_checked, 4);
}

// A start from what rounding took away brings the model nearer to the one before, the nearer the larger the
// rank.
TEST_F(MethodTest, LoftqStartsFromWhatRoundingTook) {
  const auto rounded = model_->TrainableCopy();
  Random random(7);
  for (const Layer& layer : rounded->layers()) {
    for (const Weight& w : layer.linear) {
      for (int64_t i = 0; i < w.trained.size(); ++i) {
        w.trained.data()[i] += 0.05f * static_cast<float>(random.Normal());
      }
    }
  }
  const auto divergence = [&](LoraStart start, int64_t rank) {
    const auto method = CreateOrDie(*rounded, {.rank = rank, .start = start, .unquantized = model_.get()});
    const TrainOptions train;
    const Teacher teacher{*model_};
    return Trainer(ctx(), *method, train, &teacher).Evaluate({BatchOf(golden_["batches"][0])});
  };
  const double before = divergence(LoraStart::kZero, 4), few = divergence(LoraStart::kResidual, 4),
               many = divergence(LoraStart::kResidual, 24);
  EXPECT_GT(before, 1e-3);
  EXPECT_LT(few, 0.9 * before);
  EXPECT_LT(many, 0.5 * few);
  const auto other = GoldenModel("qwen2");
  const auto refused = CreateMethod(
      ctx(), *rounded, {.rank = 4, .start = LoraStart::kResidual, .unquantized = other.get()}, 1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("before rounding"));
}

TEST_F(MethodTest, TargetModules) {
  const auto slots_of = [&](PeftOptions options) {
    std::vector<int> slots;
    const Adapter adapter = CreateOrDie(*model_, options)->adapter();
    for (int s = 0; s < kNumLinearSlots; ++s) {
      if (!adapter.layers[1][static_cast<size_t>(s)].empty()) slots.push_back(s);
    }
    return slots;
  };
  const auto of = [](std::vector<Slot> slots) {
    std::vector<int> numbers;
    for (const Slot s : slots) numbers.push_back(static_cast<int>(s));
    std::ranges::sort(numbers);
    return numbers;
  };
  EXPECT_EQ(slots_of({.target_modules = {"v_proj", "q_proj"}}), of({Slot::kQ, Slot::kV}));
  EXPECT_EQ(slots_of({.method = "ia3"}), of({Slot::kK, Slot::kV, Slot::kDown}));
  EXPECT_EQ(slots_of({}).size(), size_t{kNumLinearSlots});
  EXPECT_EQ(slots_of({.method = "ia3", .target_modules = {"all-linear"}}).size(), size_t{kNumLinearSlots});
}

TEST_F(MethodTest, WhatDoesNotFitIsRefused) {
  const auto message = [&](const PeftOptions& options) {
    const auto method = CreateMethod(ctx(), *model_, options, 1);
    return method ? std::string("accepted") : method.error().message;
  };
  EXPECT_THAT(message({.target_modules = {"q_proj", "c_attn"}}),
              HasSubstr("target module 'c_attn' is not one of all-linear, q_proj, k_proj, v_proj, o_proj, "
                        "gate_proj, up_proj, down_proj"));
  EXPECT_THAT(message({.rank = 0}), HasSubstr("rank 0"));
  EXPECT_THAT(message({.rank = 65}), HasSubstr("rank 65 does not fit"));
  EXPECT_THAT(message({.method = "oft"}), HasSubstr("'oft' is not one of lora, dora, vera, ia3, bottleneck"));
  EXPECT_THAT(message({.method = "prompt-tuning", .target_modules = {"q_proj"}}),
              HasSubstr("prompt-tuning has no target modules"));
}

}  // namespace
}  // namespace thimble
