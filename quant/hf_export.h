// A GGUF as a folder that Hugging Face Transformers loads.
#pragma once

#include <optional>
#include <string>

#include "quant/export_plan.h"

namespace thimble {

struct HfExportOptions {
  // F32, F16 or BF16, for all tensors. Without it the type that most of the source's weights have, F16 where
  // they are quantized.
  std::optional<WeightType> type;
  uint64_t max_shard_bytes = 5'000'000'000;  // as Transformers
};

// Writes config.json, generation_config.json, tokenizer.json, tokenizer_config.json and model.safetensors (or
// its shards and their index). The folder must be new or empty; it holds nothing if the work fails.
Result<ExportStats> WriteHfDirectory(const ModelFile& source, const HfExportOptions& options,
                                     const std::string& directory, ThreadPool& pool,
                                     const ProgressFn& progress, const std::string& stage);

}  // namespace thimble
