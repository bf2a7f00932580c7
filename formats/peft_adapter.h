// PEFT's adapter folder: adapter_config.json and adapter_model.safetensors (docs/formats/peft.md).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/adapter_notes.h"
#include "formats/safetensors.h"

namespace thimble {

// The fields of LoraConfig that change numbers; the rest of the JSON is kept in `json` and written back.
struct PeftLoraConfig {
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  std::vector<std::string> target_modules;
  std::map<std::string, int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  bool use_rslora = false;
  bool use_dora = false;
  bool fan_in_fan_out = false;
  std::string bias = "none";
  std::string base_model_name_or_path;

  // lora_alpha / r, or lora_alpha / sqrt(r) for rsLoRA, with the module's own rank and alpha where a pattern
  // matches its name as PEFT matches it (the key is a regular expression anchored at the end of the name, on
  // a dot or the start: peft/tuners/tuners_utils.py, get_pattern_key).
  double Scale(const std::string& module) const;
};

struct PeftAdapter {
  std::string path;
  std::string peft_type;  // "LORA", "IA3", ...
  Json json;              // adapter_config.json as it stands
  PeftLoraConfig lora;    // filled where peft_type is LORA
  AdapterNotes notes;
  SafetensorsFile weights;  // names as in the file: base_model.model.<module>.lora_A.weight
};

Result<PeftAdapter> ReadPeftAdapter(const std::string& directory);

// adapter_config.json of LoRA.
Json ToJson(const PeftLoraConfig& lora);

// Creates the folder if needed; both files appear whole or not at all. `config` is adapter_config.json, and
// `tensors` carry PEFT's names; `notes` go beside them, into the safetensors file's metadata.
Status WritePeftAdapter(const std::string& directory, const Json& config, const TensorTable& tensors,
                        const AdapterNotes& notes = {});

}  // namespace thimble
