#include "quant/calibration_file.h"

#include <gmock/gmock.h>

#include <fstream>

#include "base/file.h"
#include "quant/tensor_names.h"
#include "quant/test_support.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class CalibrationFileTest : public testing::Test {
 protected:
  CalibrationFileTest() : tokenizer_(LoadTokenizer(model_->file()).value()) {
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
  // Every matrix's statistics.
  static void ExpectSameFile(const CalibrationFile& a, const CalibrationFile& b, const Model& model) {
    EXPECT_EQ(a.n_tokens(), b.n_tokens());
    int matrices = 0;
    for (const auto& [name, place] : PlacesByName(model.config(), Naming::kGguf)) {
      ASSERT_EQ(a.Has(name), b.Has(name));
      if (!a.Has(name)) continue;
      ++matrices;
      ExpectSame(a.Read(name).value(), b.Read(name).value());
    }
    EXPECT_GE(matrices, 7 * model.config().n_layers + 1);
  }

  TemporaryFolder folder_;
  ThreadPool pool_{2};
  Context ctx_{.pool = pool_}, exact_{.pool = pool_, .compute = Compute::kF32};
  std::unique_ptr<Model> model_ = GoldenModel("llama");
  Tokenizer tokenizer_;
  TextPart text_{"text", {}, false};
  CalibrationOptions options_;
  std::vector<std::vector<int32_t>> windows_ = {RandomIds(40, 272, 1), RandomIds(30, 272, 2),
                                                RandomIds(20, 272, 3)};
};

TEST_F(CalibrationFileTest, HoldsWhatWasCollectedByTensorsNames) {
  for (const char* name : {"llama", "gemma3_text"}) {
    const auto model = GoldenModel(name);
    const Calibration c = Calibrate(exact_, *model, windows_, 0, nullptr).value();
    const CalibrationFile file = CalibratedOrDie(pool_, *model, windows_, folder_ / "c.gguf");
    EXPECT_EQ(file.n_tokens(), c.n_tokens);
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      const TensorRow* row = FindRow(*model->config().arch, static_cast<Slot>(s));
      ExpectSame(file.Read(LayerName(row->gguf, 1)).value(), c.layers[1][s]);
    }
    ExpectSame(file.Read("output.weight").value(), c.output);
    const bool tied = model->config().tied_embeddings;
    ExpectSame(file.Read("token_embd.weight").value(), tied ? c.output : c.embedding);
    EXPECT_EQ(file.ReadMeanSquares("blk.1.ffn_up.weight").value(),
              c.layers[1][static_cast<size_t>(Slot::kUp)].mean_squares);
    EXPECT_FALSE(file.Has("blk.1.attn_norm.weight"));
    EXPECT_FALSE(file.Has("blk.99.ffn_up.weight"));
  }
}

TEST_F(CalibrationFileTest, PassesDoNotChangeTheResult) {
  for (const char* name : {"llama", "gemma3_text"}) {
    const auto model = GoldenModel(name);
    uint64_t layer = 0;
    for (const Weight& w : model->layers()[0].linear) {
      layer += static_cast<uint64_t>(w.n_in * w.n_in) * sizeof(float);
    }
    const auto whole = PlanPasses(*model, UINT64_MAX).value(), single = PlanPasses(*model, layer).value();
    EXPECT_EQ(whole.size(), 1u);
    EXPECT_GE(std::ssize(single), model->config().n_layers);
    const CalibrationFile one = CalibratedOrDie(pool_, *model, windows_, folder_ / "one.gguf");
    for (const uint64_t limit : {layer, 2 * layer + 100}) {
      const CalibrationFile many = CalibratedOrDie(pool_, *model, windows_, folder_ / "many.gguf", limit);
      ExpectSameFile(one, many, *model);
    }
    EXPECT_EQ(ReadFile(folder_ / "one.gguf").value(), ReadFile(folder_ / "many.gguf").value());
    const auto too_little = PlanPasses(*model, layer - 1);
    ASSERT_FALSE(too_little);
    EXPECT_THAT(too_little.error().message,
                HasSubstr("--calibration-memory: the statistics of layer 0 alone"));
  }
}

// The first pass has its share of the time; the others see the same windows.
TEST_F(CalibrationFileTest, PassesThatAreCutShortAgree) {
  uint64_t layer = 0;
  for (const Weight& w : model_->layers()[0].linear) {
    layer += static_cast<uint64_t>(w.n_in * w.n_in) * sizeof(float);
  }
  ASSERT_TRUE(CalibrateToFile(exact_, *model_, windows_, {.max_seconds = 1e-9, .max_bytes = layer}, "key",
                              folder_ / "cut.gguf", nullptr));
  const CalibrationFile cut = CalibrationFile::Open(*model_, "key", folder_ / "cut.gguf").value();
  const CalibrationFile first = CalibratedOrDie(pool_, *model_, {windows_[0]}, folder_ / "first.gguf");
  ExpectSameFile(cut, first, *model_);
}

TEST_F(CalibrationFileTest, AnotherKeyModelOrFileIsAnError) {
  const std::string path = folder_ / "c.gguf";
  CalibratedOrDie(pool_, *model_, windows_, path);
  const auto other_key = CalibrationFile::Open(*model_, "other", path);
  ASSERT_FALSE(other_key);
  EXPECT_EQ(other_key.error().code, ErrorCode::kInvalidArgument);
  const auto other_model = CalibrationFile::Open(*GoldenModel("gemma3_text"), "key", path);
  ASSERT_FALSE(other_model);
  EXPECT_EQ(other_model.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(other_model.error().message, HasSubstr("does not fit the model"));
  EXPECT_FALSE(CalibrationFile::Open(*model_, "key", folder_ / "absent.gguf"));
  const std::string whole = ReadFile(path).value();
  for (const size_t size : {size_t{0}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    ASSERT_TRUE(WriteFileAtomically(path, std::string_view(whole).substr(0, size)));
    EXPECT_FALSE(CalibrationFile::Open(*model_, "key", path)) << size;
  }
}

TEST_F(CalibrationFileTest, TheCacheIsUsedAndDamageMended) {
  const CachedCalibration made = Get(options_), again = Get(options_);
  EXPECT_FALSE(made.found);
  EXPECT_TRUE(again.found);
  EXPECT_EQ(made.key, again.key);
  EXPECT_EQ(made.folder, again.folder);
  ExpectSameFile(made.calibration, again.calibration, *model_);
  const std::string path = made.folder + "/calibration.gguf", whole = ReadFile(path).value();
  ASSERT_TRUE(WriteFileAtomically(path, std::string_view(whole).substr(0, whole.size() / 2)));
  const CachedCalibration mended = Get(options_);
  EXPECT_FALSE(mended.found);
  ExpectSameFile(again.calibration, mended.calibration, *model_);
  EXPECT_EQ(ReadFile(path).value(), whole);
}

TEST_F(CalibrationFileTest, MemoryDoesNotChangeTheKey) {
  const CachedCalibration made = Get(options_);
  options_.limits.max_bytes = 1;
  EXPECT_TRUE(Get(options_).found);
}

// Whatever changes the statistics, or the texts that others are made from, changes the key.
TEST_F(CalibrationFileTest, TheKeySaysWhatItIsMadeFrom) {
  std::vector<std::string> keys = {Get(options_).key};
  const auto changed = [&](const auto& change) {
    CalibrationOptions options = options_;
    change(options);
    keys.push_back(Get(options).key);
  };
  changed([](CalibrationOptions& o) { o.n_ctx = 16; });
  changed([](CalibrationOptions& o) { o.max_tokens = 200; });
  changed([](CalibrationOptions& o) {
    o.limits.max_seconds = 1e-9;
  });  // or a short one would pass for a whole one
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

TEST_F(CalibrationFileTest, NothingIsKeptOfWhatIsCancelledOrTooShort) {
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
