#include "train/checkpoint.h"

#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "formats/safetensors.h"

namespace thimble {
namespace {

constexpr const char* kMoments = "/optimizer.safetensors";
constexpr const char* kState = "/trainer_state.json";

void AddMoments(const char* prefix, const std::vector<Tensor>& moments, TensorTable& table) {
  for (size_t i = 0; i < moments.size(); ++i) {
    const Tensor& t = moments[i];
    const auto* bytes = reinterpret_cast<const uint8_t*>(t.data());
    table.Add({fmt::format("{}.{}", prefix, i),
               WeightType::kF32,
               {t.rows(), t.cols()},
               {bytes, static_cast<size_t>(t.size()) * sizeof(float)}});
  }
}

Status ReadMoments(const std::string& path, const char* prefix, const TensorTable& table,
                   const std::vector<Tensor>& moments) {
  for (size_t i = 0; i < moments.size(); ++i) {
    const Tensor& t = moments[i];
    const TensorInfo* info = table.Find(fmt::format("{}.{}", prefix, i));
    if (info == nullptr || info->type != WeightType::kF32 ||
        info->shape != std::vector<int64_t>{t.rows(), t.cols()}) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: moment {}.{} is missing or of another shape", path,
                       prefix, i);
    }
    std::memcpy(t.data(), info->bytes.data(), info->bytes.size());
  }
  return {};
}

}  // namespace

Status SaveCheckpoint(const std::string& directory, const Method& method, const AdamW& optimizer,
                      const TrainState& state) {
  // The folder appears under its name only when it is whole.
  const std::string temporary = directory + ".tmp";
  std::error_code ec;
  std::filesystem::remove_all(temporary, ec);
  RETURN_IF_ERROR(method.Save(temporary));
  TensorTable table;
  AddMoments("m", optimizer.first_moments(), table);
  AddMoments("v", optimizer.second_moments(), table);
  RETURN_IF_ERROR(WriteSafetensors(temporary + kMoments, table));
  const Json json = {{"step", state.step}, {"seed", state.seed}, {"options", state.options}};
  RETURN_IF_ERROR(WriteFileAtomically(temporary + kState, DumpJson(json, 2) + "\n"));
  std::filesystem::remove_all(directory, ec);
  std::filesystem::rename(temporary, directory, ec);
  if (ec) return MakeError(ErrorCode::kIo, "{}: cannot finish the checkpoint: {}", directory, ec.message());
  return {};
}

Result<TrainState> LoadCheckpoint(const std::string& directory, Method& method, AdamW& optimizer) {
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(directory + kState));
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_unsigned() ||
      !json.contains("seed") || !json["seed"].is_number_unsigned()) {
    return MakeError(ErrorCode::kCorrupt, "{}{}: fields step and seed are missing", directory, kState);
  }
  TrainState state{json["step"], json["seed"], json.value("options", Json::object())};
  RETURN_IF_ERROR(method.Load(directory));
  const std::string moments = directory + kMoments;
  ASSIGN_OR_RETURN(const SafetensorsFile file, ReadSafetensors(moments));
  RETURN_IF_ERROR(ReadMoments(moments, "m", file.tensors, optimizer.first_moments()));
  RETURN_IF_ERROR(ReadMoments(moments, "v", file.tensors, optimizer.second_moments()));
  optimizer.set_n_steps(state.step);
  return state;
}

}  // namespace thimble
