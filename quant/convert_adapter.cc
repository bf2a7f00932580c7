#include "quant/convert_adapter.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "formats/gguf.h"
#include "model/adapter.h"
#include "quant/export_plan.h"

namespace thimble {
namespace {

bool IsFolder(const std::string& path) {
  std::error_code ec;
  return std::filesystem::is_directory(path, ec);
}

struct NamedModule {
  std::string name, short_name;
  const AdapterModule* module;
  double alpha() const { return static_cast<double>(module->scale) * static_cast<double>(module->a.rows()); }
};

std::vector<NamedModule> ModulesOf(const Adapter& adapter, const ArchRow& arch) {
  std::vector<NamedModule> modules;
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (int s = 0; s < kNumLinearSlots; ++s) {
      const Slot slot = static_cast<Slot>(s);
      const AdapterModule& module = adapter.layers[layer][static_cast<size_t>(s)];
      if (!module.a) continue;
      modules.push_back(
          {HfModuleName(arch, slot, static_cast<int64_t>(layer)), ShortModuleName(arch, slot), &module});
    }
  }
  return modules;
}

template <typename T, typename F>
T MostCommon(const std::vector<NamedModule>& modules, F value) {
  std::map<T, int> counts;
  for (const NamedModule& m : modules) ++counts[value(m)];
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

}  // namespace

bool IsAdapter(const std::string& path) {
  std::error_code ec;
  if (IsFolder(path)) return std::filesystem::exists(path + "/adapter_config.json", ec);
  const auto file = ReadGguf(path);
  return file && file->metadata.String("general.type") == "adapter";
}

PeftLoraConfig PeftConfigOf(const Adapter& adapter, const Model& model) {
  const std::vector<NamedModule> modules = ModulesOf(adapter, *model.config().arch);
  CHECK(!modules.empty());
  const auto rank = [](const NamedModule& m) { return m.module->a.rows(); };
  const auto alpha = [](const NamedModule& m) { return m.alpha(); };
  PeftLoraConfig config;
  config.r = MostCommon<int64_t>(modules, rank);
  config.lora_alpha = MostCommon<double>(modules, alpha);
  std::map<std::string, int64_t> layers_with;
  for (const NamedModule& m : modules) {
    if (rank(m) != config.r) config.rank_pattern[m.name] = rank(m);
    if (alpha(m) != config.lora_alpha) config.alpha_pattern[m.name] = alpha(m);
    ++layers_with[m.short_name];
  }
  for (const NamedModule& m : modules) {  // a short name means the module of every layer
    const bool everywhere = layers_with[m.short_name] == model.config().n_layers;
    const std::string& name = everywhere ? m.short_name : m.name;
    auto& targets = config.target_modules;
    if (std::find(targets.begin(), targets.end(), name) == targets.end()) targets.push_back(name);
  }
  return config;
}

Status ConvertAdapter(const std::string& in, const std::string& base, const std::string& out,
                      WeightType type) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(base));
  ASSIGN_OR_RETURN(const Adapter adapter, LoadAdapter(in, *model));
  if (IsFolder(in)) {
    RETURN_IF_ERROR(CheckOutputFile(in, out));
    return SaveGgufAdapter(adapter, *model, out, type);
  }
  PeftLoraConfig config = PeftConfigOf(adapter, *model);
  config.base_model_name_or_path = base;
  return SavePeftAdapter(adapter, *model, config, out);
}

}  // namespace thimble
