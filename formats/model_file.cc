#include "formats/model_file.h"

#include <filesystem>

namespace thimble {

Result<ModelFile> OpenModelFile(const std::string& path) {
  ModelFile model{.path = path};
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) {
    ASSIGN_OR_RETURN(model.hf, ReadHfDirectory(path));
  } else {
    ASSIGN_OR_RETURN(model.gguf, ReadGguf(path));
  }
  return model;
}

}  // namespace thimble
