#include "train/train_log.h"

#include <filesystem>

#include "base/file.h"

namespace thimble {

Result<TrainLog> TrainLog::Open(const std::string& path, int64_t first_step) {
  std::string kept;
  std::error_code ec;
  if (first_step > 0 && std::filesystem::exists(path, ec)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      const auto entry = ParseJson(line, path);
      if (!entry || !entry->is_object() || !entry->contains("step") || !(*entry)["step"].is_number())
        continue;
      if ((*entry)["step"] <= first_step) kept += line + "\n";
    }
  }
  RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  std::ofstream file(path, std::ios::app);
  if (!file) return MakeError(ErrorCode::kIo, "{}: cannot write", path);
  return TrainLog(std::move(file));
}

void TrainLog::Append(const Json& entry) {
  file_ << DumpJson(entry) << "\n" << std::flush;
}

}  // namespace thimble
