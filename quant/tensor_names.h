// Where each tensor of an architecture stands: its row in the table, and its layer.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "formats/tensor_table.h"
#include "model/config.h"

namespace thimble {

struct TensorPlace {
  const TensorRow* row;
  int64_t layer;
};

enum class Naming { kGguf, kHf };

// All names that a model of this configuration may have.
std::unordered_map<std::string, TensorPlace> PlacesByName(const ModelConfig& config, Naming naming);

// An error unless `tensors` has each tensor that the architecture needs, with whole heads where rows are
// permuted and values that can be computed with. `path` goes into the message.
Status CheckTensors(const ModelConfig& config, Naming naming, const TensorTable& tensors,
                    const std::string& path);

}  // namespace thimble
