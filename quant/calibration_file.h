// Calibrations on disk, so that another budget does not have to calibrate again, and that memory need not
// hold all Hessians at once: a GGUF with general.type "calibration", of F32.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "formats/gguf.h"
#include "quant/calibration.h"
#include "quant/calibration_text.h"

namespace thimble {

// Statistics by a tensor's name in a GGUF of the model, read when they are asked for.
class CalibrationFile {
 public:
  // Error kInvalidArgument if the file has another key or other shapes than the model's layers.
  static Result<CalibrationFile> Open(const Model& model, const std::string& key, const std::string& path);

  int64_t n_tokens() const { return n_tokens_; }
  bool Has(const std::string& name) const { return entries_.contains(name); }  // not for vectors
  Result<LayerStatistics> Read(const std::string& name) const;                 // Has(name)
  // LayerStatistics' mean_squares alone, or an embedding's that is not the output: zeros.
  Result<std::vector<float>> ReadMeanSquares(const std::string& name) const;

 private:
  struct Entry {
    std::span<const uint8_t> bytes;
    int64_t n_in, n_out;
  };
  Result<std::vector<float>> ReadFloats(std::span<const uint8_t> bytes) const;

  GgufFile file_;
  std::string path_;
  int64_t n_tokens_ = 0;
  std::unordered_map<std::string, Entry> entries_;
};

struct CalibrationLimits {
  double max_seconds = 0;           // 0: as long as it takes
  uint64_t max_bytes = UINT64_MAX;  // of Hessians at once; the statistics do not depend on it
};
// Calibrates pass by pass, each of which goes to the file before the next. `key` says what the calibration is
// made from. Of several ranks, which share the windows, the first writes.
Status CalibrateToFile(const Context& ctx, const Model& model, std::span<const std::vector<TokenId>> windows,
                       const CalibrationLimits& limits, const std::string& key, const std::string& path,
                       const ProgressFn& progress);

struct CalibrationOptions {
  std::vector<TextPart> texts;  // of which eight documents of ten are used
  int64_t n_ctx = 512;          // tokens of a window
  int64_t max_tokens = 49152;   // evenly from all parts
  CalibrationLimits limits = {};
  std::string cache_dir = DefaultCacheDir();

  static std::string DefaultCacheDir();  // ~/.cache/thimble, or as XDG_CACHE_HOME says
};

struct CachedCalibration {
  CalibrationFile calibration;
  std::string key;     // a hash of the model, the texts and the options
  std::string folder;  // of its own in the cache, where what is made from it may be kept too
  bool found = false;  // in the cache
};
// From the cache, or made and kept there: the first rank's cache, which alone has the `calibration` then.
Result<CachedCalibration> CalibrateOrLoad(const Context& ctx, const Model& model, const Tokenizer& tokenizer,
                                          const ChatTemplate* chat_template,
                                          const CalibrationOptions& options, const ProgressFn& progress);

}  // namespace thimble
