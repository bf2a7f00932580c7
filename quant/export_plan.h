// What a new GGUF file will hold, decided before a byte of it is written.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/metadata.h"
#include "formats/model_file.h"
#include "quant/mixes.h"
#include "quant/tensor_stream.h"

namespace thimble {

constexpr uint32_t kQuantizationVersion = 2;  // general.quantization_version; ggml.h, GGML_QNT_VERSION

struct ExportPlan {
  Metadata metadata;
  std::vector<ExportTensor> tensors;
  ModelFile source;                                          // keeps the tensors' bytes alive
  std::vector<std::shared_ptr<std::vector<uint8_t>>> owned;  // of tensors that no file holds
};

// Both builders keep each tensor's type, save that vectors and norms from Hugging Face become F32 (as
// llama.cpp has them); ApplyMix changes types. From a GGUF, all keys are kept but those of split files.
Result<ExportPlan> PlanFromGguf(ModelFile source);
// Names, metadata, row order and norms as llama.cpp's convert_hf_to_gguf.py makes them (general.* only what
// it takes from the folder's name and generation_config.json). Tensors that GGUF has no place for are an
// error, not dropped.
Result<ExportPlan> PlanFromHf(ModelFile source);
Result<ExportPlan> PlanFromModelFile(ModelFile source);

// Types by a mix's rules, and general.file_type.
Status ApplyMix(const MixOptions& options, ExportPlan& plan);

// Native types become GGUF's own (PortableType), and general.file_type the one that most weights have.
void MakePortable(ExportPlan& plan);
// general.file_type of the type that most weights have.
void SetFileType(ExportPlan& plan);

struct ExportStats {
  std::vector<TensorReport> tensors;
  uint64_t bytes_in = 0, bytes_out = 0;  // of tensors' data
  int64_t n_weights = 0;

  double bits_per_weight() const;
  int64_t n_fallback() const;
  int64_t n_requantized() const;  // rounded a second time: their source was quantized already
  // Weights in tensors whose rows forced another type, and what that added to (or took from) the bits per
  // weight.
  double fallback_share() const;
  double fallback_bits() const;
  // Over all tensors that were rounded.
  double relative_error() const;
  void Add(TensorReport report);
};

// The size on disk of a GGUF, or of a folder's weights.
uint64_t FileBytes(const ModelFile& file);
// Refuses what could not be written once all the work is done: a folder, a file in one that is not there or
// not ours, or the file that is read.
Status CheckOutputFile(const std::string& source, const std::string& path);

// Streams tensor by tensor; the file appears whole or not at all. `rounding` is asked for each tensor that is
// quantized when its turn comes; null: every weight counts alike.
Result<ExportStats> WriteGgufFromPlan(const ExportPlan& plan, const std::string& path, ThreadPool& pool,
                                      const ProgressFn& progress, const std::string& stage,
                                      const RoundingFor& rounding = nullptr);

}  // namespace thimble
