// Shared by the tests: the tiny models with random weights, their text side, adapters and answers.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "base/random.h"
#include "engine/session.h"
#include "model/model.h"
#include "text/load_tokenizer.h"

namespace thimble {

inline const std::string kModels = THIMBLE_SOURCE_DIR "/tests/golden/models/";

struct Loaded {
  std::unique_ptr<Model> model;
  std::optional<Tokenizer> tokenizer;
};

inline Loaded Load(const std::string& name) {
  Loaded loaded;
  auto model = Model::Load(kModels + name);
  EXPECT_TRUE(model) << model.error().message;
  loaded.model = std::move(*model);
  auto tokenizer = LoadTokenizer(loaded.model->file());
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  loaded.tokenizer = std::move(*tokenizer);
  return loaded;
}

// A low-rank change of every query and value projection.
inline Adapter RandomAdapter(const Model& model, uint64_t seed) {
  Random random(seed);
  const auto filled = [&](int64_t rows, int64_t cols) {
    Tensor t = Tensor::Empty(rows, cols);
    for (int64_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(0.3 * random.Normal());
    return t;
  };
  Adapter adapter{.name = "random"};
  for (const Layer& layer : model.layers()) {
    auto& modules = adapter.layers.emplace_back();
    for (Slot slot : {Slot::kQ, Slot::kV}) {
      const Weight& w = layer.weight(slot);
      modules[static_cast<size_t>(slot)] = {.a = filled(2, w.n_in), .b = filled(w.n_out, 2)};
    }
  }
  return adapter;
}

inline Generation Answer(Session& session, const std::vector<TokenId>& prompt, const GenerateOptions& options,
                         const TextFn& on_text = nullptr) {
  auto out = session.Generate(prompt, options, on_text);
  EXPECT_TRUE(out) << out.error().message;
  return out ? *out : Generation{};
}

}  // namespace thimble
