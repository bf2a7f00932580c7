#include "train/checkpoint.h"

#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "formats/safetensors.h"

namespace thimble {
namespace {

constexpr const char* kOptimizer = "/optimizer.safetensors";
constexpr const char* kState = "/trainer_state.json";

Status ReadState(const std::string& path, const TensorTable& table, const Optimizer& optimizer) {
  for (const auto& [name, value] : optimizer.state()) {
    const TensorInfo* info = table.Find(name);
    if (info == nullptr || info->type != WeightType::kF32 ||
        info->shape != std::vector<int64_t>{value.rows(), value.cols()}) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: '{}' is missing or of another shape", path, name);
    }
    std::memcpy(value.data(), info->bytes.data(), info->bytes.size());
  }
  return {};
}

}  // namespace

Status SaveCheckpoint(const std::string& directory, const Method& method, const Optimizer& optimizer,
                      const TrainState& state) {
  // The folder appears under its name only when it is whole.
  const std::string temporary = directory + ".tmp";
  std::error_code ec;
  std::filesystem::remove_all(temporary, ec);
  RETURN_IF_ERROR(method.Save(temporary));
  TensorTable table;
  for (const auto& [name, value] : optimizer.state()) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(value.data());
    table.Add({name,
               WeightType::kF32,
               {value.rows(), value.cols()},
               {bytes, static_cast<size_t>(value.size()) * sizeof(float)}});
  }
  RETURN_IF_ERROR(WriteSafetensors(temporary + kOptimizer, table));
  Json json = {{"step", state.step},       {"seed", state.seed},       {"options", state.options},
               {"n_worse", state.n_worse}, {"seconds", state.seconds}, {"tokens", state.n_tokens}};
  if (state.best_eval_loss) json["best_eval_loss"] = *state.best_eval_loss;
  RETURN_IF_ERROR(WriteFileAtomically(temporary + kState, DumpJson(json, 2) + "\n"));
  std::filesystem::remove_all(directory, ec);
  std::filesystem::rename(temporary, directory, ec);
  if (ec) return MakeError(ErrorCode::kIo, "{}: cannot finish the checkpoint: {}", directory, ec.message());
  return {};
}

Result<TrainState> LoadCheckpoint(const std::string& directory, Method& method, Optimizer& optimizer) {
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(directory + kState));
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_unsigned() ||
      !json.contains("seed") || !json["seed"].is_number_unsigned()) {
    return MakeError(ErrorCode::kCorrupt, "{}{}: fields step and seed are missing", directory, kState);
  }
  TrainState state{json["step"], json["seed"], json.value("options", Json::object())};
  if (const auto best = json.find("best_eval_loss"); best != json.end() && best->is_number())
    state.best_eval_loss = best->get<double>();
  if (const auto n = json.find("n_worse"); n != json.end() && n->is_number_unsigned())
    state.n_worse = n->get<int64_t>();
  if (const auto seconds = json.find("seconds"); seconds != json.end() && seconds->is_number())
    state.seconds = seconds->get<double>();
  if (const auto n = json.find("tokens"); n != json.end() && n->is_number_unsigned())
    state.n_tokens = n->get<int64_t>();
  RETURN_IF_ERROR(method.Load(directory));
  const std::string path = directory + kOptimizer;
  ASSIGN_OR_RETURN(const SafetensorsFile file, ReadSafetensors(path));
  RETURN_IF_ERROR(ReadState(path, file.tensors, optimizer));
  optimizer.set_n_steps(state.step);
  return state;
}

}  // namespace thimble
