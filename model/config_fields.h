// Reading the numbers of a model's configuration with their bounds.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/metadata.h"
#include "model/config.h"

namespace thimble {

// Bounds that no real model exceeds; they keep products of sizes far from overflow.
constexpr int64_t kMaxLayers = 1024, kMaxWidth = 1 << 20, kMaxVocab = 1 << 24,
                  kMaxContext = (int64_t{1} << 31) - 1;

// Fields of GGUF metadata or of a JSON object. Keeps the first error, which names the file and the field, and
// gives harmless values after it.
class ConfigFields {
 public:
  // `prefix` is put before each key: "llama." in the file, "rope_scaling." in messages only.
  ConfigFields(const Metadata& metadata, std::string file, std::string prefix);
  ConfigFields(const Json& json, std::string file, std::string prefix = "");
  ConfigFields(const ConfigFields&) = delete;

  // Without a fallback the field is required. JSON's null counts as absent.
  int64_t Int(const std::string& key, std::optional<int64_t> fallback, int64_t min, int64_t max);
  // Strictly between the bounds.
  double Float(const std::string& key, double fallback, double above, double below);
  bool Bool(const std::string& key, bool fallback);
  std::string String(const std::string& key, const std::string& fallback);

  template <typename... Args>
  void Fail(ErrorCode code, const std::string& key, fmt::format_string<Args...> format, Args&&... args) {
    if (status_) {
      status_ = MakeError(code, "{}: {}{} {}", file_, prefix_, key,
                          fmt::format(format, std::forward<Args>(args)...));
    }
  }
  const Status& status() const { return status_; }

 private:
  struct Field {
    std::optional<int64_t> as_int;
    std::optional<double> as_float;
    std::optional<bool> as_bool;
    std::optional<std::string> as_string;
    std::string text;
  };
  std::function<std::optional<Field>(const std::string&)> find_;
  std::string file_, prefix_;
  Status status_;
};

// What holds between fields, whichever file they came from.
Status CheckConfig(const ModelConfig& config, const std::string& file);
// The family's own pattern of local layers.
std::vector<bool> DefaultWindows(const ModelConfig& config, int64_t pattern);

}  // namespace thimble
