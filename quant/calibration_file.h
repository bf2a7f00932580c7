// Calibrations on disk, so that another budget does not have to calibrate again: a GGUF with general.type
// "calibration", of F32.
#pragma once

#include <string>

#include "base/result.h"
#include "quant/calibration.h"
#include "quant/calibration_text.h"

namespace thimble {

// `key` says what the calibration was made from.
Status SaveCalibration(const Calibration& calibration, const std::string& key, const std::string& path);
// Error kInvalidArgument if the file has another key or other shapes than the model's layers.
Result<Calibration> LoadCalibration(const Model& model, const std::string& key, const std::string& path);

struct CalibrationOptions {
  std::vector<TextPart> texts;  // of which eight documents of ten are used
  int64_t n_ctx = 512;          // tokens of a window
  int64_t max_tokens = 49152;   // evenly from all parts
  double max_seconds = 0;       // 0: as long as it takes
  std::string cache_dir = DefaultCacheDir();

  static std::string DefaultCacheDir();  // ~/.cache/thimble, or as XDG_CACHE_HOME says
};

struct CachedCalibration {
  Calibration calibration;
  std::string key;     // a hash of the model, the texts and the options
  std::string folder;  // of its own in the cache, where what is made from it may be kept too
  bool found = false;  // in the cache
};
// From the cache, or made and kept there.
Result<CachedCalibration> CalibrateOrLoad(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                          const ChatTemplate* chat_template,
                                          const CalibrationOptions& options, const ProgressFn& progress);

}  // namespace thimble
