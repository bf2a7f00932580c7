#include "quant/imatrix.h"

#include <gmock/gmock.h>

#include <functional>

#include "base/file.h"
#include "formats/gguf.h"
#include "quant/test_support.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class ImatrixTest : public testing::Test {
 protected:
  CalibrationFile Calibrated() {
    std::vector<std::vector<int32_t>> windows = {RandomIds(40, model_->config().vocab_size, 1),
                                                 RandomIds(40, model_->config().vocab_size, 2)};
    return CalibratedOrDie(pool_, *model_, windows, folder_ / "calibration.gguf");
  }
  ExportPlan Plan() { return PlanFromModelFile(OpenModelFile(kModelsDirectory + "llama").value()).value(); }
  Imatrix Made() {
    Imatrix imatrix = ImatrixOf(Calibrated(), model_->config()).value();
    imatrix.datasets = {"en", "a name, with a comma"};
    imatrix.chunk_size = 40;
    imatrix.n_chunks = 2;
    return imatrix;
  }

  TemporaryFolder folder_;
  ThreadPool pool_{2};
  std::unique_ptr<Model> model_ = GoldenModel("llama");
};

TEST_F(ImatrixTest, NamesEveryMatrixThatHasInputs) {
  const CalibrationFile calibration = Calibrated();
  const Imatrix imatrix = ImatrixOf(calibration, model_->config()).value();
  EXPECT_EQ(imatrix.mean_squares.size(), model_->layers().size() * kNumLinearSlots + 1);
  EXPECT_EQ(imatrix.mean_squares.at("blk.1.ffn_down.weight"),
            calibration.Read("blk.1.ffn_down.weight").value().mean_squares);
  EXPECT_EQ(imatrix.mean_squares.at("output.weight"), calibration.Read("output.weight").value().mean_squares);
  EXPECT_FALSE(imatrix.mean_squares.contains("token_embd.weight"));  // not tied
  EXPECT_FALSE(imatrix.mean_squares.contains("blk.0.attn_q.bias"));
  EXPECT_TRUE(CheckImatrix(imatrix, Plan(), "x"));
}

TEST_F(ImatrixTest, ComesBackAsItWas) {
  const Imatrix imatrix = Made();
  const std::string path = folder_ / "i.gguf";
  ASSERT_TRUE(WriteImatrix(imatrix, path));
  const auto again = ReadImatrix(path);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->datasets, imatrix.datasets);
  EXPECT_EQ(again->n_chunks, 2);
  EXPECT_EQ(again->chunk_size, 40);
  ASSERT_EQ(again->mean_squares.size(), imatrix.mean_squares.size());
  for (const auto& [name, values] : imatrix.mean_squares) {
    const auto& read = again->mean_squares.at(name);
    ASSERT_EQ(read.size(), values.size());
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(read[i], values[i], 1e-6f * values[i]);
  }
  // As llama.cpp lays them out: sums over tokens, and how many those were, [1, columns] and [1, 1].
  const auto file = ReadGguf(path);
  ASSERT_TRUE(file);
  const TensorInfo* sums = file->tensors.Find("blk.0.attn_q.weight.in_sum2");
  const TensorInfo* counts = file->tensors.Find("blk.0.attn_q.weight.counts");
  ASSERT_TRUE(sums != nullptr && counts != nullptr);
  EXPECT_EQ(sums->shape, (std::vector<int64_t>{1, 64}));
  EXPECT_EQ(counts->shape, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(*reinterpret_cast<const float*>(counts->bytes.data()), 80);
}

TEST_F(ImatrixTest, MustFitTheModel) {
  const ExportPlan plan = Plan();
  Imatrix imatrix = Made();
  imatrix.mean_squares["no.such.weight"] = {1, 2};
  EXPECT_TRUE(CheckImatrix(imatrix, plan, "i.gguf"));  // others' names do no harm
  imatrix.mean_squares["blk.0.attn_q.weight"].pop_back();
  const auto columns = CheckImatrix(imatrix, plan, "i.gguf");
  ASSERT_FALSE(columns);
  EXPECT_THAT(columns.error().message,
              HasSubstr("i.gguf: 'blk.0.attn_q.weight' has 63 columns, in the model it has 64"));
  const auto names = CheckImatrix({.mean_squares = {{"no.such.weight", {1, 2}}}}, plan, "i.gguf");
  ASSERT_FALSE(names);
  EXPECT_THAT(names.error().message, HasSubstr("names no tensor"));
}

// A file that differs from a right one in one thing.
TEST_F(ImatrixTest, DamageIsAnError) {
  const std::string path = folder_ / "i.gguf";
  struct Content {
    std::string type = "imatrix";
    std::vector<TensorDeclaration> tensors = {{"a.in_sum2", WeightType::kF32, {1, 2}},
                                              {"a.counts", WeightType::kF32, {1, 1}}};
    std::vector<float> sums = {6, 9}, counts = {3};
  };
  const auto read = [&](const std::function<void(Content&)>& change) {
    Content c;
    change(c);
    Metadata metadata;
    metadata.Set("general.type", {c.type});
    auto writer = GgufWriter::Create(path, metadata, c.tensors).value();
    for (size_t i = 0; i < c.tensors.size(); ++i) {
      const std::vector<float>& values = i == 0 ? c.sums : c.counts;
      EXPECT_TRUE(
          writer.Write({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)}));
    }
    EXPECT_TRUE(writer.Finish());
    return ReadImatrix(path);
  };
  EXPECT_EQ(read([](Content&) {})->mean_squares.at("a"), (std::vector<float>{2, 3}));
  EXPECT_EQ(read([](Content& c) { c.counts = {0}; })->mean_squares.at("a"), (std::vector<float>{1, 1}));
  EXPECT_EQ(read([](Content& c) { c.type = "model"; }).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(read([](Content& c) { c.tensors.pop_back(); }).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(read([](Content& c) { c.tensors[0].shape = {2, 1}; }).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(read([](Content& c) { c.tensors[0].type = WeightType::kI32; }).error().code,
            ErrorCode::kUnsupported);
  for (const float bad : {NAN, INFINITY, -1.0f}) {
    const auto damaged = read([bad](Content& c) { c.sums[1] = bad; });
    ASSERT_FALSE(damaged) << bad;
    EXPECT_EQ(damaged.error().code, ErrorCode::kCorrupt);
  }
  EXPECT_EQ(read([](Content& c) { c.counts = {NAN}; }).error().code, ErrorCode::kCorrupt);
  ASSERT_TRUE(WriteFileAtomically(path, "an older .dat"));
  EXPECT_FALSE(ReadImatrix(path));
}

TEST_F(ImatrixTest, RoundsWhatItNames) {
  ExportPlan plan = Plan();
  Imatrix imatrix;
  imatrix.mean_squares["blk.0.attn_q.weight"] = std::vector<float>(64, 1);
  for (size_t i = 0; i < 64; i += 2) imatrix.mean_squares["blk.0.attn_q.weight"][i] = 100;
  const RoundingFor rounding = RoundingBy(imatrix);
  int named = 0;
  for (const ExportTensor& t : plan.tensors) {
    const auto how = rounding(t);
    ASSERT_TRUE(how);
    EXPECT_FALSE(how->factor);
    named += !how->importance.empty();
    EXPECT_EQ(how->importance.empty(), t.name != "blk.0.attn_q.weight");
  }
  EXPECT_EQ(named, 1);
}

}  // namespace
}  // namespace thimble
