#include "model/arch.h"

#include <fmt/format.h>

namespace thimble {

extern const ArchRow kLlamaArch, kMistralArch, kQwen2Arch, kQwen3Arch, kGemma3Arch;

namespace {
const ArchRow* const kArchs[] = {&kLlamaArch, &kMistralArch, &kQwen2Arch, &kQwen3Arch, &kGemma3Arch};
}  // namespace

std::span<const ArchRow* const> AllArchs() {
  return kArchs;
}

const ArchRow* FindArchByGguf(std::string_view gguf_arch) {
  for (const ArchRow* arch : kArchs) {
    if (arch->gguf_arch == gguf_arch) return arch;
  }
  return nullptr;
}

const ArchRow* FindArchByHf(std::string_view model_type) {
  for (const ArchRow* arch : kArchs) {
    for (const char* name : arch->hf_types) {
      if (name == model_type) return arch;
    }
  }
  return nullptr;
}

std::string SupportedArchs() {
  std::string names;
  for (const ArchRow* arch : kArchs) {
    for (const char* name : arch->hf_types) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

std::string LayerName(const char* pattern, int64_t layer) {
  return fmt::format(fmt::runtime(pattern), layer);
}

const TensorRow* FindRow(const ArchRow& arch, Slot slot) {
  for (const TensorRow& row : arch.tensors) {
    if (row.slot == slot) return &row;
  }
  return nullptr;
}

}  // namespace thimble
