#include "train/trainer.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>

#include "model/test_support.h"

namespace thimble {
namespace {

using testing::HasSubstr;

// Random sequences that follow a rule which can be learned: each token is the one before plus a step.
Dataset CountingData(int64_t n, int64_t vocab, uint64_t seed = 1) {
  Random random(seed);
  Dataset data;
  for (int64_t i = 0; i < n; ++i) {
    Example example;
    const int64_t length = 6 + static_cast<int64_t>(random.Below(10));
    TokenId token = static_cast<TokenId>(random.Below(static_cast<uint64_t>(vocab)));
    for (int64_t j = 0; j < length; ++j) {
      example.tokens.push_back(token);
      token = static_cast<TokenId>((token + 3) % vocab);
      example.labels.push_back(j + 1 < length ? token : -1);
    }
    data.n_tokens += length;
    data.n_labels += length - 1;
    data.examples.push_back(std::move(example));
  }
  return data;
}

class TrainerTest : public testing::Test {
 protected:
  Result<TrainSummary> Run(const TrainOptions& options, const std::string& output,
                           const std::string& resume = "", const ProgressFn& progress = nullptr,
                           const Dataset* eval_data = nullptr,
                           const std::function<Status(const TrainPlan&)>& on_start = nullptr) {
    const auto method = CreateMethod(ctx_, *model_, peft_, options.seed);
    if (!method) return tl::unexpected(method.error());
    return Train(ctx_,
                 {.method = **method,
                  .data = data_,
                  .eval_data = eval_data,
                  .options = options,
                  .output = folder_ / output,
                  .resume = resume,
                  .on_start = on_start},
                 progress, nullptr);
  }
  // A run of options_, and what was told of it before its first step.
  Result<TrainSummary> RunWithPlan(TrainPlan& plan) {
    return Run(options_, "out", "", nullptr, nullptr, [&](const TrainPlan& told) -> Status {
      plan = told;
      return {};
    });
  }
  static std::vector<double> Losses(const TrainSummary& summary) {
    std::vector<double> losses;
    for (const Json& entry : summary.log) {
      if (entry.contains("loss")) losses.push_back(entry["loss"]);
    }
    return losses;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Model> model_ = GoldenModel("llama");
  ThreadPool pool_{2};
  Context ctx_{.pool = pool_, .compute = Compute::kF32};
  Dataset data_ = CountingData(60, 272);
  PeftOptions peft_{.rank = 4, .alpha = 8, .dropout = 0.1};
  TrainOptions options_{.learning_rate = 1e-2, .batch_size = 6, .max_seq_length = 32};
};

TEST_F(TrainerTest, LossFallsAndTheSavedAdapterGivesIt) {
  const Dataset eval = CountingData(30, 272);  // the first half of the data
  options_.epochs = 6;
  const auto summary = Run(options_, "out", "", nullptr, &eval);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->steps, 60);
  EXPECT_LT(*summary->eval_loss, 0.5 * *summary->eval_loss_before);
  EXPECT_LT(summary->last_loss, 0.7 * summary->first_loss);

  const auto method = CreateMethod(ctx_, *model_, peft_, 1);
  ASSERT_TRUE(method);
  const Status loaded = (*method)->Load(folder_ / "out");
  ASSERT_TRUE(loaded) << loaded.error().message;
  std::vector<const Example*> all;
  for (const Example& example : eval.examples) all.push_back(&example);
  Trainer trainer(ctx_, **method, options_);
  EXPECT_NEAR(trainer.Evaluate({MakeBatch(all)}), *summary->eval_loss, 1e-5);
}

TEST_F(TrainerTest, ResumedRunsHaveTheSameLosses) {
  options_.epochs = 2;
  options_.warmup_steps = 3;
  options_.save_steps = 7;
  options_.gradient_accumulation = 2;
  const auto whole = Run(options_, "whole");
  ASSERT_TRUE(whole) << whole.error().message;
  ASSERT_EQ(whole->steps, 10);
  const auto rest = Run(options_, "rest", folder_ / "whole/checkpoint-7");
  ASSERT_TRUE(rest) << rest.error().message;
  EXPECT_EQ(rest->steps, 3);
  const auto losses = Losses(*whole);
  EXPECT_EQ(Losses(*rest), std::vector<double>(losses.begin() + 7, losses.end()));
  const auto a = LoadAdapter(folder_ / "whole", *model_), b = LoadAdapter(folder_ / "rest", *model_);
  ASSERT_TRUE(a && b);
  const auto ta = TensorsOf(*a), tb = TensorsOf(*b);
  for (size_t i = 0; i < ta.size(); ++i) EXPECT_EQ(Values(ta[i]), Values(tb[i])) << i;
}

TEST_F(TrainerTest, CancellingSavesWhereItStands) {
  options_.epochs = 1;
  const auto whole = Run(options_, "whole");
  const auto cancelled = Run(options_, "cut", "", [](const Progress& p) { return p.done < 4; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  const std::string checkpoint = folder_ / "cut/checkpoint-4";
  EXPECT_THAT(cancelled.error().message, HasSubstr("--resume " + checkpoint));
  const auto rest = Run(options_, "cut", checkpoint);
  ASSERT_TRUE(rest) << rest.error().message;
  const auto losses = Losses(*whole);
  EXPECT_EQ(Losses(*rest), std::vector<double>(losses.begin() + 4, losses.end()));
}

TEST_F(TrainerTest, ResumingSomethingElseIsRefused) {
  options_.save_steps = 4;
  ASSERT_TRUE(Run(options_, "out"));
  const std::string checkpoint = folder_ / "out/checkpoint-4";
  const auto message = [&](const TrainOptions& options) {
    const auto summary = Run(options, "again", checkpoint);
    return summary ? std::string("accepted") : summary.error().message;
  };
  TrainOptions other = options_;
  other.learning_rate = 5e-3;
  EXPECT_THAT(message(other), HasSubstr("other data or options"));
  other = options_;
  other.seed = 1;
  EXPECT_THAT(message(other), HasSubstr("other data or options"));
  peft_.rank = 2;
  EXPECT_THAT(message(options_), HasSubstr("other modules or ranks"));
  peft_.rank = 4;
  peft_.target_modules = {"q_proj"};
  EXPECT_THAT(message(options_), HasSubstr("other modules or ranks"));
  peft_.target_modules.clear();
  other = options_;
  other.max_steps = 4;
  EXPECT_THAT(message(other), HasSubstr("stands at step 4 of 4"));
  data_ = CountingData(59, 272);
  EXPECT_THAT(message(options_), HasSubstr("other data or options"));
  model_ = GoldenModel("gemma3_text");
  EXPECT_THAT(message(options_), HasSubstr("checkpoint-4"));
  const auto absent = Run(options_, "again", folder_ / "absent");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message, HasSubstr("absent"));
}

TEST_F(TrainerTest, AccumulatedGradientsAreThoseOfTheWholeBatch) {
  peft_.dropout = 0;
  for (const auto& [pieces, batch] : {std::pair{1, 8}, {2, 4}, {4, 2}}) {
    const auto method = CreateMethod(ctx_, *model_, peft_, 3);
    ASSERT_TRUE(method);
    Trainer trainer(ctx_, **method, options_);
    std::vector<TrainBatch> batches;
    for (int i = 0; i < pieces; ++i) {
      std::vector<const Example*> examples;
      for (int j = 0; j < batch; ++j) examples.push_back(&data_.examples[static_cast<size_t>(i * batch + j)]);
      batches.push_back(MakeBatch(examples));
    }
    std::vector<StepResult> results;
    for (int step = 0; step < 3; ++step) results.push_back(trainer.Step(batches, 1e-3));
    static const std::vector<StepResult> whole = results;
    for (size_t i = 0; i < results.size(); ++i) {
      EXPECT_NEAR(results[i].loss, whole[i].loss, 1e-5);
      EXPECT_NEAR(results[i].grad_norm, whole[i].grad_norm, 1e-4 * whole[i].grad_norm);
      EXPECT_EQ(results[i].n_labels, whole[i].n_labels);
    }
  }
}

TEST_F(TrainerTest, DropoutFollowsTheSeed) {
  options_.max_steps = 3;
  const auto a = Run(options_, "a"), b = Run(options_, "b");
  EXPECT_EQ(Losses(*a), Losses(*b));
  peft_.dropout = 0;
  // The first step differs by dropout only where B is not 0 any more: from the second on.
  EXPECT_EQ(Losses(*a)[0], Losses(*Run(options_, "c"))[0]);
  EXPECT_NE(Losses(*a)[1], Losses(*Run(options_, "c"))[1]);
}

TEST_F(TrainerTest, ClippingBoundsTheStepAndNotTheReport) {
  options_.max_steps = 1;
  options_.max_grad_norm = 1e-3;
  const auto clipped = Run(options_, "a");
  options_.max_grad_norm = 0;
  const auto free = Run(options_, "b");
  EXPECT_GT(clipped->log[0]["grad_norm"].get<double>(), 0.01);
  EXPECT_EQ(clipped->log[0]["grad_norm"], free->log[0]["grad_norm"]);
}

TEST_F(TrainerTest, ADivergingRunSaysSo) {
  options_.learning_rate = 1e30;
  const auto summary = Run(options_, "out");
  ASSERT_FALSE(summary);
  EXPECT_THAT(summary.error().message, HasSubstr("the loss is not finite; try a smaller learning rate"));
}

TEST_F(TrainerTest, EarlyStoppingKeepsTheBest) {
  const Dataset eval = CountingData(12, 272, 9);
  options_.learning_rate = 8e-2;  // learns, then forgets
  options_.schedule = Schedule::kConstant;
  options_.epochs = 20;
  options_.eval_steps = 5;
  options_.early_stopping_patience = 3;
  options_.save_steps = 5;
  const auto summary = Run(options_, "out", "", nullptr, &eval);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_TRUE(summary->stopped_early);
  std::vector<double> losses;
  for (const Json& entry : summary->log) {
    if (entry.contains("eval_loss")) losses.push_back(entry["eval_loss"]);
  }
  const auto best = std::min_element(losses.begin() + 1, losses.end());
  EXPECT_EQ(losses.end() - best, 4);
  EXPECT_EQ(*summary->eval_loss, *best);
  EXPECT_EQ(summary->steps, 5 * (std::ssize(losses) - 1));
  const auto method = CreateMethod(ctx_, *model_, peft_, 1);
  ASSERT_TRUE(method && (*method)->Load(folder_ / "out"));
  EXPECT_NEAR(Trainer(ctx_, **method, options_).Evaluate(EvalBatches(eval, options_)), *best, 1e-5);
  // Resumed one evaluation before the end, it stops at the same step.
  const auto rest = Run(options_, "out", fmt::format("{}/checkpoint-{}", folder_ / "out", summary->steps - 5),
                        nullptr, &eval);
  ASSERT_TRUE(rest) << rest.error().message;
  EXPECT_TRUE(rest->stopped_early);
  EXPECT_EQ(rest->steps, 5);
  const auto refused = Run(options_, "no");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("early stopping needs data to evaluate"));
}

TEST_F(TrainerTest, AdafactorLearnsAndResumes) {
  options_.optimizer.name = "adafactor";
  options_.learning_rate = 1;  // times the parameters' size, which is small
  options_.epochs = 4;
  options_.save_steps = 30;
  const auto whole = Run(options_, "whole");
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_LT(whole->last_loss, 0.8 * whole->first_loss);
  const auto rest = Run(options_, "rest", folder_ / "whole/checkpoint-30");
  ASSERT_TRUE(rest) << rest.error().message;
  const auto losses = Losses(*whole);
  EXPECT_EQ(Losses(*rest), std::vector<double>(losses.begin() + 30, losses.end()));
  options_.optimizer.name = "adamw";
  EXPECT_FALSE(Run(options_, "rest", folder_ / "whole/checkpoint-30"));
}

TEST_F(TrainerTest, AMemoryLimitTurnsCheckpointingOnOrEndsTheRun) {
  TrainPlan plan;
  options_.max_steps = 1;
  const auto run = [&](int64_t max_ram) {
    options_.max_ram = max_ram;
    return RunWithPlan(plan);
  };
  ASSERT_TRUE(run(0));
  EXPECT_FALSE(plan.checkpoints);
  EXPECT_FALSE(plan.integer_gradients);  // of an F32 model
  EXPECT_GT(plan.memory, plan.memory_checkpointed);
  ASSERT_TRUE(run(int64_t{1} << 40));
  EXPECT_FALSE(plan.checkpoints);
  const auto refused = run(1 << 20);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("MB more than --max-ram"));
}

TEST_F(TrainerTest, ThePlanIsToldBeforeTheFirstStep) {
  TrainPlan plan;
  options_.epochs = 1.5;
  options_.warmup_ratio = 0.1;
  ASSERT_TRUE(RunWithPlan(plan));
  EXPECT_EQ(plan.steps_per_epoch, 10);
  EXPECT_EQ(plan.n_steps, 15);
  EXPECT_EQ(plan.warmup_steps, 2);
  EXPECT_EQ(plan.n_base_parameters, 96576);
  // Per layer: q and o 64 + 64, k and v 64 + 32, gate, up and down 64 + 96, times rank 4.
  EXPECT_EQ(plan.n_parameters, 2 * 4 * (2 * 128 + 2 * 96 + 3 * 160));
}

// The whole step against PEFT and torch on the real model: ../shared/golden/golden_train.json.
class PeftTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Runs, PeftTest, testing::Values("lora_fp32", "rslora_fp32"),
                         [](const auto& info) { return info.param; });

TEST_P(PeftTest, TenLossesAndGradientNorms) {
  SKIP_WITHOUT(kSmolLm2);
  SKIP_WITHOUT(kSharedGolden);
  const Json golden = ReadJsonOrDie(kSharedGolden + "golden_train.json");
  const Json& run = golden["runs"][GetParam()];
  const auto model = LoadModelOrDie(kSmolLm2);
  const PeftOptions peft{.rank = 8, .alpha = 16, .rslora = std::string(GetParam()).starts_with("rslora")};
  TrainOptions options{.max_grad_norm = 0};
  options.optimizer = {.weight_decay = golden["weight_decay"],
                       .beta1 = golden["betas"][0],
                       .beta2 = golden["betas"][1],
                       .eps = golden["eps"]};
  ThreadPool pool;
  const Context ctx{.pool = pool, .compute = Compute::kF32};
  const auto method = CreateMethod(ctx, *model, peft, 1);
  ASSERT_TRUE(method);
  const Status loaded = (*method)->Load(kSharedGolden + "adapters/train_init_lora");
  ASSERT_TRUE(loaded) << loaded.error().message;
  Trainer trainer(ctx, **method, options);
  // In an emulator ten steps take more than an hour.
  const char* patience = std::getenv("THIMBLE_TEST_PATIENCE");
  const size_t n_steps = patience != nullptr && std::atoi(patience) > 1 ? 1 : 10;
  for (size_t step = 0; step < n_steps; ++step) {
    TrainBatch batch;
    for (const Json& row : golden["batches"][step]) {
      const auto ids = row.get<std::vector<int32_t>>();
      batch.tokens.insert(batch.tokens.end(), ids.begin(), ids.end());
      batch.labels.insert(batch.labels.end(), ids.begin() + 1, ids.end());
      batch.labels.push_back(-1);
      batch.lengths.push_back(static_cast<int64_t>(ids.size()));
    }
    const StepResult result = trainer.Step({batch}, golden["lr"]);
    EXPECT_NEAR(result.loss, run["losses"][step].get<double>(), 1e-3) << step;
    EXPECT_NEAR(result.grad_norm, run["grad_norms"][step].get<double>(), 2e-3 * result.grad_norm) << step;
    RecordProperty("loss_difference_" + std::to_string(step),
                   fmt::format("{:.1e}", result.loss - run["losses"][step].get<double>()));
  }
}

}  // namespace
}  // namespace thimble
