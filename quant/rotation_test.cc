// Rotated models against the ones that they were.
#include "quant/rotation.h"

#include <gmock/gmock.h>

#include "quant/test_support.h"

namespace thimble {
namespace {

TEST(RotationTest, IsOrthogonal) {
  for (const int64_t n : {int64_t{1}, int64_t{3}, int64_t{64}, int64_t{96}, int64_t{576}}) {
    const Rotation rotation(n, 7);
    std::vector<std::vector<float>> rows;  // of Q
    for (int64_t i = 0; i < n; ++i) {
      auto& row = rows.emplace_back(static_cast<size_t>(n));
      row[static_cast<size_t>(i)] = 1;
      rotation.Apply(row.data());
    }
    double worst = 0, largest = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t j = 0; j <= i; ++j) {
        double dot = 0;
        for (size_t k = 0; k < rows.size(); ++k) dot += static_cast<double>(rows[i][k]) * rows[j][k];
        worst = std::max(worst, std::abs(dot - (i == j ? 1 : 0)));
      }
      for (const float x : rows[i]) largest = std::max(largest, std::abs(static_cast<double>(x)));
    }
    EXPECT_LT(worst, 1e-6) << n;
    if (n >= 64) {
      EXPECT_LT(largest, 0.5) << n;  // no element passes into one alone
    }
  }
}

class RotatedModelTest : public testing::TestWithParam<std::string> {
 protected:
  static ExportPlan Plan(const std::string& path) {
    ExportPlan plan = PlanFromModelFile(OpenModelFile(path).value()).value();
    EXPECT_TRUE(ApplyMix({.type = "F32", .pure = true}, plan));
    return plan;
  }
  TemporaryFolder folder_;
  ThreadPool pool_{2};
};

TEST_P(RotatedModelTest, ComputesTheSame) {
  const auto model = GoldenModel(GetParam());
  const std::string path = folder_ / "rotated.gguf";
  const ExportPlan plan = Plan(kModelsDirectory + GetParam());
  ASSERT_TRUE(WriteRotatedGguf(plan, model->config(), 3, path, pool_, nullptr));
  const auto rotated = LoadModelOrDie(path);
  const std::vector<int32_t> ids = RandomIds(24, model->config().vocab_size, 5);
  const Context ctx{.pool = pool_, .compute = Compute::kF32};
  const auto logits = [&](const Model& m) { return Logits(ctx, m, ForwardHidden(ctx, m, {.tokens = ids})); };
  const Tensor before = logits(*model), after = logits(*rotated);
  double largest = 0, worst = 0;
  for (int64_t i = 0; i < before.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(before.data()[i])));
    worst = std::max(worst, std::abs(static_cast<double>(before.data()[i]) - after.data()[i]));
  }
  EXPECT_LT(worst, 2e-5 * largest);

  // And is rotated: of each matrix that it reads or writes hardly a weight stays.
  const bool residual = RotationsOf(model->config()).residual;
  for (const ExportTensor& t : plan.tensors) {
    const TensorInfo& now = *rotated->file().gguf->tensors.Find(t.name);
    const float* x = reinterpret_cast<const float*>(now.bytes.data());
    std::vector<float> row(static_cast<size_t>(t.source.row_size()));
    int64_t same = 0;
    bool ones = true;
    for (int64_t i = 0; i < t.source.n_rows(); ++i) {
      ReadRow(t, SourceRow(t, i), row.data());
      for (const float w : row) {
        same += w == *x;
        ones = ones && *x == 1;
        ++x;
      }
    }
    const bool values =
        t.name.find("attn_v") != std::string::npos || t.name.find("attn_output") != std::string::npos;
    if (t.shape().size() == 2) {
      EXPECT_LT(static_cast<double>(same) / static_cast<double>(t.source.n_elements()),
                residual || values ? 0.01 : 1.01)
          << t.name;
      EXPECT_EQ(same == t.source.n_elements(), !residual && !values) << t.name;
    } else if (t.name.ends_with("norm.weight") && t.name.find("_q_") == std::string::npos &&
               t.name.find("_k_") == std::string::npos) {
      EXPECT_EQ(ones, residual) << t.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RotatedModelTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace thimble
