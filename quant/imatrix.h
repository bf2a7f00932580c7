// Importance matrices as llama.cpp's llama-imatrix writes them (tools/imatrix/imatrix.cpp, GGUF).
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "quant/calibration_file.h"
#include "quant/export_plan.h"

namespace thimble {

// Mean squared activation of each input column, by the weight's name: "blk.0.attn_q.weight".
struct Imatrix {
  std::unordered_map<std::string, std::vector<float>> mean_squares;
  std::vector<std::string> datasets;
  int64_t n_chunks = 0, chunk_size = 0;
};

Result<Imatrix> ImatrixOf(const CalibrationFile& calibration, const ModelConfig& config);

// An error where a matrix that is to be quantized has other columns than the imatrix says, or none of it
// matches.
Status CheckImatrix(const Imatrix& imatrix, const ExportPlan& plan, const std::string& path);
// `imatrix` must outlive the result. Tensors that it does not name are rounded with every weight alike.
RoundingFor RoundingBy(const Imatrix& imatrix);

Status WriteImatrix(const Imatrix& imatrix, const std::string& path);
// Errors: kInvalidArgument for what is no imatrix in GGUF (the older .dat files are not read), kCorrupt for
// sums that are no sums of squares.
Result<Imatrix> ReadImatrix(const std::string& path);

}  // namespace thimble
