// Shared by the tests: the tiny models with random weights and their text side.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

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

}  // namespace thimble
