// What costs are expected, against those of the weights that are then written.
#include "quant/sensitivity.h"

#include <gmock/gmock.h>

#include <map>

#include "codec/codec.h"
#include "formats/gguf.h"
#include "quant/calibrated_rounding.h"
#include "quant/test_support.h"

namespace thimble {
namespace {

constexpr WeightType kTypes[] = {WeightType::kQ4_0, WeightType::kQ8_0, WeightType::kQ4_K, WeightType::kQ5_1};

class SensitivityTest : public testing::Test {
 protected:
  SensitivityTest() {
    for (uint64_t i = 0; i < 6; ++i) windows_.push_back(RandomIds(48, 272, i));
  }
  CalibrationFile CalibrateModel(const Model& model) {
    return CalibratedOrDie(pool_, model, windows_, folder_ / (std::to_string(++n_calibrated_) + ".gguf"));
  }
  std::vector<TensorCosts> Costs(const ExportPlan& plan, const CalibrationFile& calibration,
                                 std::span<const WeightType> types = kTypes) {
    auto costs = MeasureCosts(plan, calibration, types, pool_, nullptr);
    EXPECT_TRUE(costs);
    return std::move(*costs);
  }
  static std::vector<ExportTensor> Matrices(const ExportPlan& plan, const CalibrationFile& calibration) {
    std::vector<ExportTensor> matrices;
    std::ranges::copy_if(plan.tensors, std::back_inserter(matrices),
                         [&](const ExportTensor& t) { return calibration.Has(t.name); });
    return matrices;
  }
  // What was rounded is kept in the folder, under "a key".
  std::vector<TensorCosts> CostsKept(const ExportPlan& plan, const CalibrationFile& calibration) {
    auto keep = RoundedTensorsWriter::Create(folder_ / "", "a key", kTypes, Matrices(plan, calibration));
    EXPECT_TRUE(keep);
    auto costs = MeasureCosts(plan, calibration, kTypes, pool_, nullptr, {.keep = &*keep});
    EXPECT_TRUE(costs && keep->Finish());
    return std::move(*costs);
  }
  static ExportPlan Plan(const std::string& path) {
    return PlanFromModelFile(OpenModelFile(path).value()).value();
  }

  TemporaryFolder folder_;
  ThreadPool pool_{2};
  std::vector<std::vector<int32_t>> windows_;
  int n_calibrated_ = 0;
};

std::vector<float> Decode(const TensorInfo& t) {
  std::vector<float> values(static_cast<size_t>(t.n_elements()));
  const size_t bytes = RowBytes(t.type, t.row_size());
  for (int64_t r = 0; r < t.n_rows(); ++r) {
    DecodeRow(t.type, t.bytes.data() + static_cast<size_t>(r) * bytes, values.data() + r * t.row_size(),
              t.row_size());
  }
  return values;
}

// Half of the sum over rows of row_weights e (H + damping) e^T.
double Cost(const LayerStatistics& s, const std::vector<float>& before, const std::vector<float>& after) {
  const int64_t n = s.hessian.n;
  const double damping = 0.01 * s.hessian.trace() / static_cast<double>(n);
  double cost = 0;
  for (size_t r = 0; r < s.row_weights.size(); ++r) {
    std::vector<double> e(static_cast<size_t>(n));
    for (size_t i = 0; i < e.size(); ++i) e[i] = before[r * e.size() + i] - after[r * e.size() + i];
    for (int64_t i = 0; i < n; ++i) {
      const double row = e[static_cast<size_t>(i)];
      cost += 0.5 * s.row_weights[r] * damping * row * row;
      for (int64_t j = 0; j <= i; ++j) {
        cost += s.row_weights[r] * (i == j ? 0.5 : 1.0) * row * e[static_cast<size_t>(j)] *
                s.hessian.h[static_cast<size_t>(i * n + j)];
      }
    }
  }
  return cost;
}

TEST_F(SensitivityTest, CostsAreThoseOfTheFile) {
  const auto model = GoldenModel("llama_bias_tied");
  const CalibrationFile calibration = CalibrateModel(*model);
  // From a GGUF, so that rows stand as the model has them.
  const std::string source = folder_ / "source.gguf";
  ASSERT_TRUE(WriteGgufFromPlan(Plan(kModelsDirectory + "llama_bias_tied"), source, pool_, nullptr, ""));
  const auto bound = LoadModelOrDie(source);
  const CalibrationFile of_gguf = CalibrateModel(*bound);
  ExportPlan plan = Plan(source);
  const auto costs = Costs(plan, of_gguf);
  const std::string written = folder_ / "out.gguf";
  for (const size_t choice : {size_t{0}, size_t{1}, size_t{2}}) {
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      ASSERT_EQ(costs[i].name, plan.tensors[i].name);
      if (costs[i].choices.size() > 1) plan.tensors[i].type = costs[i].choices[choice].type;
    }
    ASSERT_TRUE(WriteGgufFromPlan(plan, written, pool_, nullptr, "",
                                  RoundingBy({RoundingMethod::kGptq}, of_gguf, pool_)));
    const GgufFile file = ReadGguf(written).value();
    int matrices = 0;
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      if (!of_gguf.Has(costs[i].name)) continue;
      const LayerStatistics s = of_gguf.Read(costs[i].name).value();
      ++matrices;
      const double cost = Cost(s, Decode(plan.tensors[i].source), Decode(*file.tensors.Find(costs[i].name)));
      EXPECT_NEAR(costs[i].choices[choice].kld, cost, 2e-3 * cost) << costs[i].name;
    }
    EXPECT_EQ(matrices, 15);  // seven of two layers, and the embedding, which is the output
  }
  // The same model as a folder, whose rows of queries and keys stand in another order.
  std::map<std::string, double> by_name;
  for (const TensorCosts& t : costs) by_name[t.name] = t.choices[0].kld;
  for (const TensorCosts& t : Costs(Plan(kModelsDirectory + "llama_bias_tied"), calibration)) {
    EXPECT_NEAR(t.choices[0].kld, by_name.at(t.name), 0.02 * by_name.at(t.name)) << t.name;
  }
}

// A file of kept tensors is that of rounding them, also from a folder, whose rows stand in another order.
TEST_F(SensitivityTest, RoundedTensorsAreKept) {
  const auto model = GoldenModel("llama_bias_tied");
  const CalibrationFile calibration = CalibrateModel(*model);
  ExportPlan plan = Plan(kModelsDirectory + "llama_bias_tied");
  const std::vector<ExportTensor> matrices = Matrices(plan, calibration);
  const auto costs = CostsKept(plan, calibration);
  const WeightType types[] = {WeightType::kQ4_0, WeightType::kQ8_0, WeightType::kQ5_1};
  const auto rounded = RoundedTensors::Open(folder_ / "", "a key", types, matrices);
  ASSERT_TRUE(rounded) << rounded.error().message;
  for (const WeightType type : types) {
    ExportPlan copied = plan;
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      const TensorInfo* kept = rounded->Find(plan.tensors[i].name, type);
      ASSERT_EQ(kept != nullptr, calibration.Has(plan.tensors[i].name));
      if (kept == nullptr) continue;
      plan.tensors[i].type = copied.tensors[i].type = type;
      copied.tensors[i].source = *kept;
    }
    const std::string a = folder_ / "a.gguf", b = folder_ / "b.gguf";
    const auto stats = WriteGgufFromPlan(plan, a, pool_, nullptr, "",
                                         RoundingBy({RoundingMethod::kGptq}, calibration, pool_));
    ASSERT_TRUE(stats);
    ASSERT_TRUE(WriteGgufFromPlan(copied, b, pool_, nullptr, ""));
    EXPECT_EQ(ReadFile(a).value(), ReadFile(b).value()) << Name(type);
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      const auto cost = std::ranges::find(costs[i].choices, type, &TypeCost::type);
      if (cost == costs[i].choices.end()) continue;
      EXPECT_NEAR(cost->relative_error, stats->tensors[i].relative_error(), 1e-6) << plan.tensors[i].name;
    }
  }
  EXPECT_FALSE(RoundedTensors::Open(folder_ / "", "another key", types, matrices));
  EXPECT_FALSE(RoundedTensors::Open(folder_ / "", "a key", std::vector{WeightType::kQ5_0}, matrices));
}

// What is in the type already stays bit for bit, and costs nothing.
TEST_F(SensitivityTest, ATypeThatATensorHasIsCopied) {
  ExportPlan plan = Plan(kModelsDirectory + "llama");
  ASSERT_TRUE(ApplyMix({.type = "Q8_0", .pure = true}, plan));
  const std::string source = folder_ / "q8.gguf";
  ASSERT_TRUE(WriteGgufFromPlan(plan, source, pool_, nullptr, ""));
  const auto model = LoadModelOrDie(source);
  const CalibrationFile calibration = CalibrateModel(*model);
  plan = Plan(source);
  const auto costs = CostsKept(plan, calibration);
  const auto rounded =
      RoundedTensors::Open(folder_ / "", "a key", std::vector{WeightType::kQ8_0}, Matrices(plan, calibration))
          .value();
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const ExportTensor& t = plan.tensors[i];
    if (!calibration.Has(t.name)) continue;
    EXPECT_TRUE(std::ranges::equal(rounded.Find(t.name, WeightType::kQ8_0)->bytes, t.source.bytes)) << t.name;
    for (const TypeCost& c : costs[i].choices) EXPECT_EQ(c.kld == 0, c.type == WeightType::kQ8_0) << t.name;
  }
}

TEST_F(SensitivityTest, ChoicesAreWhatFits) {
  const auto model = GoldenModel("llama");
  const CalibrationFile calibration = CalibrateModel(*model);
  const ExportPlan plan = Plan(kModelsDirectory + "llama");
  for (const TensorCosts& t : Costs(plan, calibration)) {
    const auto tensor = std::ranges::find(plan.tensors, t.name, &ExportTensor::name);
    const bool matrix = tensor->shape().size() == 2;
    ASSERT_EQ(t.choices.size(), matrix ? 3u : 1u) << t.name;  // no row has whole blocks of Q4_K
    for (const TypeCost& c : t.choices) {
      const uint64_t bytes =
          static_cast<uint64_t>(tensor->source.n_rows()) * RowBytes(c.type, tensor->source.row_size());
      EXPECT_GE(c.bytes, bytes);
      EXPECT_LT(c.bytes, bytes + 32);
      EXPECT_EQ(c.bytes % 32, 0u);
    }
    if (!matrix) {
      EXPECT_EQ(t.choices[0].type, tensor->type);
      EXPECT_EQ(t.choices[0].kld, 0);
      continue;
    }
    EXPECT_EQ(t.choices[0].type, WeightType::kQ4_0);
    EXPECT_EQ(t.choices[1].type, WeightType::kQ5_1);
    EXPECT_GT(t.choices[0].kld, t.choices[1].kld);
    EXPECT_GT(t.choices[1].kld, t.choices[2].kld);
    EXPECT_GT(t.choices[2].kld, 0);
  }
  // Where no type fits, tensors stay what they are.
  const WeightType only[] = {WeightType::kQ4_K};
  for (const TensorCosts& t : Costs(plan, calibration, only)) {
    ASSERT_EQ(t.choices.size(), 1u);
    EXPECT_EQ(t.choices[0].type, WeightType::kF32);
  }
}

// In no time at all: of each tensor 32 rows at least.
TEST_F(SensitivityTest, CostsAreEstimatedInTheTimeThereIs) {
  const auto model = GoldenModel("llama");
  const CalibrationFile calibration = CalibrateModel(*model);
  const ExportPlan plan = Plan(kModelsDirectory + "llama");
  const auto brief = MeasureCosts(plan, calibration, kTypes, pool_, nullptr, {.max_seconds = 1e-9});
  const auto plenty = MeasureCosts(plan, calibration, kTypes, pool_, nullptr, {.max_seconds = 1e9});
  ASSERT_TRUE(brief && plenty);
  const auto whole = Costs(plan, calibration);
  int differ = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (size_t k = 0; k < whole[i].choices.size(); ++k) {
      const double cost = whole[i].choices[k].kld, estimate = (*brief)[i].choices[k].kld;
      EXPECT_EQ((*plenty)[i].choices[k].kld, cost);
      EXPECT_TRUE(estimate == cost || (estimate > 0.3 * cost && estimate < 3 * cost)) << whole[i].name;
      differ += estimate != cost;
    }
  }
  EXPECT_GT(differ, 0);
}

TEST_F(SensitivityTest, Cancels) {
  const auto model = GoldenModel("llama");
  const CalibrationFile calibration = CalibrateModel(*model);
  const auto cancelled = MeasureCosts(Plan(kModelsDirectory + "llama"), calibration, kTypes, pool_,
                                      [](const Progress& p) { return p.done < 0.5 * p.total; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace thimble
