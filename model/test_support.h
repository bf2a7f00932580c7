// Shared by the tests of models, training and adapters: the golden models and a little of everything.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "model/adapter.h"
#include "model/model.h"

namespace thimble {

inline const std::string kModelsDirectory = THIMBLE_SOURCE_DIR "/tests/golden/models/";
inline const std::string kSharedGolden = THIMBLE_SOURCE_DIR "/../shared/golden/";
inline const std::string kSmolLm2 = THIMBLE_SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";

inline constexpr KvTypes kF32Cache{WeightType::kF32, WeightType::kF32};

// Skips the test, saying why, where a file that the repository does not hold is absent.
#define SKIP_WITHOUT(path)                                                        \
  if (!std::filesystem::exists(path)) {                                           \
    GTEST_SKIP() << (path) << " is not there (tools/fetch_model.py gets models)"; \
  }

inline std::vector<std::string> GoldenModels() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kModelsDirectory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::unique_ptr<Model> LoadModelOrDie(const std::string& path) {
  auto model = Model::Load(path);
  if (!model) {
    ADD_FAILURE() << model.error().message;
    std::abort();
  }
  return std::move(*model);
}

inline std::unique_ptr<Model> GoldenModel(const std::string& name) {
  return LoadModelOrDie(kModelsDirectory + name);
}

inline Json ReadJsonOrDie(const std::string& path) {
  auto json = ReadJsonFile(path);
  if (!json) {
    ADD_FAILURE() << json.error().message;
    std::abort();
  }
  return std::move(*json);
}

inline std::vector<int32_t> RandomIds(int64_t n, int64_t vocab, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(static_cast<int32_t>(random.Below(static_cast<uint64_t>(vocab))));
  return ids;
}

// LoRA terms that matter: both sides random. Every `every`-th linear layer has one.
inline Adapter RandomAdapter(const Model& model, int64_t rank, uint64_t seed, int every = 1) {
  Random random(seed);
  Adapter adapter{.name = "random"};
  adapter.layers.resize(model.layers().size());
  int n = 0;
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      if (n++ % every != 0) continue;
      const Weight& w = model.layers()[i].linear[static_cast<size_t>(s)];
      AdapterModule& m = adapter.layers[i][static_cast<size_t>(s)];
      m = {Tensor::Empty(rank, w.n_in), Tensor::Empty(w.n_out, rank), 1.5f};
      for (const Tensor& t : {m.a, m.b}) {
        for (int64_t j = 0; j < t.size(); ++j) t.data()[j] = static_cast<float>(random.Normal() * 0.1);
      }
    }
  }
  return adapter;
}

inline std::vector<Tensor> TensorsOf(const Adapter& adapter) {
  std::vector<Tensor> tensors;
  for (const auto& layer : adapter.layers) {
    for (const AdapterModule& m : layer) {
      if (m.a) tensors.insert(tensors.end(), {m.a, m.b});
    }
  }
  return tensors;
}

inline std::vector<float> Values(const Tensor& t) {
  return {t.data(), t.data() + t.size()};
}

inline float LargestDifference(const float* a, const float* b, int64_t n) {
  float worst = 0;
  for (int64_t i = 0; i < n; ++i) worst = std::max(worst, std::fabs(a[i] - b[i]));
  return worst;
}

// Ids by falling logit.
inline std::vector<int32_t> TopIds(const float* logits, int64_t vocab, int64_t n) {
  std::vector<int32_t> ids(static_cast<size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  std::partial_sort(ids.begin(), ids.begin() + n, ids.end(),
                    [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  ids.resize(static_cast<size_t>(n));
  return ids;
}

// The next `n` tokens, each the likeliest.
inline std::vector<int32_t> Greedy(const Context& ctx, const Model& model, const std::vector<int32_t>& prompt,
                                   int64_t n) {
  KvCache cache(model.config(), static_cast<int64_t>(prompt.size()) + n, kF32Cache);
  std::vector<int32_t> input = prompt, generated;
  while (static_cast<int64_t>(generated.size()) < n) {
    const Tensor hidden = ForwardHidden(ctx, model, {.tokens = input, .cache = &cache});
    const Tensor logits = Logits(ctx, model, hidden);
    generated.push_back(TopIds(logits.row(logits.rows() - 1), logits.cols(), 1)[0]);
    input = {generated.back()};
  }
  return generated;
}

// A folder of its own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string("thimble-") + info->test_suite_name() + "-" + info->name() + "-" +
                       std::to_string(::getpid());
    std::replace(name.begin(), name.end(), '/', '-');
    path_ = testing::TempDir() + name;
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace thimble
