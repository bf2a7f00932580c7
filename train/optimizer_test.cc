// Against torch.optim.AdamW and Transformers' schedules (tools/make_train_goldens.py).
#include "train/optimizer.h"

#include "model/test_support.h"

namespace thimble {
namespace {

const Json& Golden() {
  static const Json golden = ReadJsonOrDie(THIMBLE_SOURCE_DIR "/tests/golden/train.json");
  return golden;
}

TEST(OptimizerTest, AdamWStepsAsTorchDoes) {
  ThreadPool pool(2);
  for (const Json& run : Golden().at("adamw")) {
    // The two halves of the parameters as tensors of their own: state must not mix.
    const auto start = run["start"].get<std::vector<float>>();
    const int64_t half = static_cast<int64_t>(start.size()) / 2;
    std::vector<Tensor> parameters{Tensor::Empty(1, half), Tensor::Empty(half, 1)};
    for (int t = 0; t < 2; ++t) std::copy_n(start.begin() + t * half, half, parameters[t].data());
    const auto optimizer = MakeOptimizer(parameters, std::vector(parameters.size(), 1.0),
                                         {.weight_decay = run["weight_decay"],
                                          .beta1 = run["betas"][0],
                                          .beta2 = run["betas"][1],
                                          .eps = run["eps"]});
    for (const Json& step : run["steps"]) {
      const auto gradients = step["gradients"].get<std::vector<float>>();
      for (int t = 0; t < 2; ++t) {
        for (int64_t i = 0; i < half; ++i)
          parameters[t].grad()[i] = 4 * gradients[static_cast<size_t>(t * half + i)];
      }
      double squares = 0;
      for (const float g : gradients) squares += 16.0 * g * g;
      EXPECT_NEAR(optimizer->GradNorm(pool), std::sqrt(squares), 1e-6 * std::sqrt(squares));
      optimizer->Step(pool, run["lr"], 0.25);
      const auto expected = step["parameters"].get<std::vector<float>>();
      for (int t = 0; t < 2; ++t) {
        for (int64_t i = 0; i < half; ++i) {
          EXPECT_NEAR(parameters[t].data()[i], expected[static_cast<size_t>(t * half + i)], 2e-6) << i;
          EXPECT_EQ(parameters[t].grad()[i], 0);
        }
      }
    }
    EXPECT_EQ(optimizer->n_steps(), static_cast<int64_t>(run["steps"].size()));
  }
}

TEST(OptimizerTest, AdafactorStepsAsTorchDoes) {
  ThreadPool pool(2);
  for (const Json& run : Golden().at("adafactor")) {
    const auto start = run["start"].get<std::vector<float>>();
    const Tensor parameter = Tensor::Empty(run["shape"][0], run["shape"][1]);
    std::copy(start.begin(), start.end(), parameter.data());
    const auto optimizer =
        MakeOptimizer({parameter}, {1.0}, {.name = "adafactor", .weight_decay = run["weight_decay"]});
    for (const Json& step : run["steps"]) {
      const auto gradients = step["gradients"].get<std::vector<float>>();
      std::copy(gradients.begin(), gradients.end(), parameter.grad());
      optimizer->Step(pool, run["lr"]);
      const auto expected = step["parameters"].get<std::vector<float>>();
      for (int64_t i = 0; i < parameter.size(); ++i) {
        EXPECT_NEAR(parameter.data()[i], expected[static_cast<size_t>(i)], 2e-6) << i;
      }
    }
    int64_t remembered = 0;
    for (const auto& [name, value] : optimizer->state()) remembered += value.size();
    EXPECT_LE(remembered, parameter.rows() == 1 ? 1 + parameter.cols() : parameter.rows() + parameter.cols());
  }
}

TEST(ScheduleTest, FactorsAreTransformers) {
  for (const Json& run : Golden().at("schedules")) {
    const auto schedule = ParseSchedule(run["name"].get<std::string>());
    ASSERT_TRUE(schedule);
    for (size_t step = 0; step < run["factors"].size(); ++step) {
      EXPECT_NEAR(ScheduleFactor(*schedule, static_cast<int64_t>(step), run["warmup"], run["total"]),
                  run["factors"][step].get<double>(), 1e-12)
          << run["name"] << ", warm-up " << run["warmup"] << ", step " << step << " of " << run["total"];
    }
  }
  EXPECT_FALSE(ParseSchedule("polynomial"));
}

}  // namespace
}  // namespace thimble
