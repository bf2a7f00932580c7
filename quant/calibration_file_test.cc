#include "quant/calibration_file.h"

#include <gmock/gmock.h>

#include <fstream>

#include "base/file.h"
#include "model/test_support.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class CalibrationFile : public testing::Test {
 protected:
  CalibrationFile() : tokenizer_(LoadTokenizer(model_->file()).value()) {
    options_.n_ctx = 32;
    options_.cache_dir = folder_ / "cache";
    for (int i = 0; i < 20; ++i) {
      text_.documents.push_back("Document " + std::to_string(i) + " says this and that, and nothing else.\n");
    }
    options_.texts = {text_};
  }

  CachedCalibration Get(const CalibrationOptions& options, const Model* model = nullptr) {
    auto cached =
        CalibrateOrLoad(ctx_, model != nullptr ? *model : *model_, tokenizer_, nullptr, options, nullptr);
    EXPECT_TRUE(cached) << cached.error().message;
    return std::move(*cached);
  }
  Calibration Made() { return Get(options_).calibration; }
  static void ExpectSame(const Calibration& a, const Calibration& b) {
    EXPECT_EQ(a.n_tokens, b.n_tokens);
    ASSERT_EQ(a.layers.size(), b.layers.size());
    const auto same = [](const LayerStatistics& x, const LayerStatistics& y) {
      ASSERT_EQ(x.hessian.n, y.hessian.n);
      for (int64_t i = 0; i < x.hessian.n; ++i) {  // only the lower triangle is kept
        const auto row = x.hessian.h.begin() + i * x.hessian.n;
        EXPECT_TRUE(std::equal(row, row + i + 1, y.hessian.h.begin() + i * x.hessian.n));
      }
      EXPECT_EQ(x.row_weights, y.row_weights);
      EXPECT_EQ(x.mean_squares, y.mean_squares);
    };
    for (size_t i = 0; i < a.layers.size(); ++i) {
      for (size_t s = 0; s < kNumLinearSlots; ++s) same(a.layers[i][s], b.layers[i][s]);
    }
    same(a.output, b.output);
  }

  TemporaryFolder folder_;
  ThreadPool pool_{2};
  Context ctx_{.pool = pool_};
  std::unique_ptr<Model> model_ = GoldenModel("llama");
  Tokenizer tokenizer_;
  TextPart text_{"text", {}, false};
  CalibrationOptions options_;
};

TEST_F(CalibrationFile, ComesBackAsItWas) {
  const Calibration made = Made();
  EXPECT_GT(made.n_tokens, 100);
  const std::string path = folder_ / "c.gguf";
  ASSERT_TRUE(SaveCalibration(made, "key", path));
  const auto loaded = LoadCalibration(*model_, "key", path);
  ASSERT_TRUE(loaded) << loaded.error().message;
  ExpectSame(made, *loaded);
}

TEST_F(CalibrationFile, AnotherKeyModelOrFileIsAnError) {
  const std::string path = folder_ / "c.gguf";
  ASSERT_TRUE(SaveCalibration(Made(), "key", path));
  const auto other_key = LoadCalibration(*model_, "other", path);
  ASSERT_FALSE(other_key);
  EXPECT_EQ(other_key.error().code, ErrorCode::kInvalidArgument);
  const auto other_model = LoadCalibration(*GoldenModel("gemma3_text"), "key", path);
  ASSERT_FALSE(other_model);
  EXPECT_EQ(other_model.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(other_model.error().message, HasSubstr("does not fit the model"));
  EXPECT_FALSE(LoadCalibration(*model_, "key", folder_ / "absent.gguf"));
  const std::string whole = ReadFile(path).value();
  for (const size_t size : {size_t{0}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    ASSERT_TRUE(WriteFileAtomically(path, std::string_view(whole).substr(0, size)));
    EXPECT_FALSE(LoadCalibration(*model_, "key", path)) << size;
  }
}

TEST_F(CalibrationFile, TheCacheIsUsedAndDamageMended) {
  const CachedCalibration made = Get(options_), again = Get(options_);
  EXPECT_FALSE(made.found);
  EXPECT_TRUE(again.found);
  EXPECT_EQ(made.key, again.key);
  EXPECT_EQ(made.folder, again.folder);
  ExpectSame(made.calibration, again.calibration);
  const std::string path = made.folder + "/calibration.gguf", whole = ReadFile(path).value();
  ASSERT_TRUE(WriteFileAtomically(path, std::string_view(whole).substr(0, whole.size() / 2)));
  const CachedCalibration mended = Get(options_);
  EXPECT_FALSE(mended.found);
  ExpectSame(made.calibration, mended.calibration);
  EXPECT_EQ(ReadFile(path).value(), whole);
}

// Whatever changes the statistics, or the texts that others are made from, changes the key.
TEST_F(CalibrationFile, TheKeySaysWhatItIsMadeFrom) {
  std::vector<std::string> keys = {Get(options_).key};
  const auto changed = [&](const auto& change) {
    CalibrationOptions options = options_;
    change(options);
    keys.push_back(Get(options).key);
  };
  changed([](CalibrationOptions& o) { o.n_ctx = 16; });
  changed([](CalibrationOptions& o) { o.max_tokens = 200; });
  changed([](CalibrationOptions& o) { o.max_seconds = 1e-9; });  // or a short one would pass for a whole one
  changed([](CalibrationOptions& o) { o.texts[0].documents[19] += "!"; });
  changed([](CalibrationOptions& o) { o.texts[0].name = "another"; });
  changed([](CalibrationOptions& o) {  // the same characters, dealt differently
    auto& documents = o.texts[0].documents;
    documents[8] += documents[9];
    documents.erase(documents.begin() + 9);
  });
  // The same weights under another configuration.
  const std::string copy = folder_ / "model";
  std::filesystem::copy(kModelsDirectory + "llama", copy);
  Json config = ReadJsonOrDie(copy + "/config.json");
  config["rms_norm_eps"] = 1e-2;
  ASSERT_TRUE(WriteFileAtomically(copy + "/config.json", config.dump()));
  keys.push_back(Get(options_, LoadModelOrDie(copy).get()).key);
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
}

TEST_F(CalibrationFile, NothingIsKeptOfWhatIsCancelledOrTooShort) {
  const auto cancelled =
      CalibrateOrLoad(ctx_, *model_, tokenizer_, nullptr, options_, [](const Progress&) { return false; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(Get(options_).found);
  options_.texts[0].documents = {"!"};
  const auto short_text = CalibrateOrLoad(ctx_, *model_, tokenizer_, nullptr, options_, nullptr);
  ASSERT_FALSE(short_text);
  EXPECT_THAT(short_text.error().message, HasSubstr("too short"));
  options_.texts = {text_};
  options_.cache_dir = folder_ / "cache/calibration/file";
  ASSERT_TRUE(WriteFileAtomically(options_.cache_dir, ""));
  const auto no_folder = CalibrateOrLoad(ctx_, *model_, tokenizer_, nullptr, options_, nullptr);
  ASSERT_FALSE(no_folder);
  EXPECT_THAT(no_folder.error().message, HasSubstr("cache/calibration/file"));
}

}  // namespace
}  // namespace thimble
