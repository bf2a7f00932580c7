#include "apps/scoring.h"

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/sha256.h"
#include "eval/perplexity.h"
#include "eval/report.h"
#include "formats/model_hash.h"

namespace thimble {
namespace {

// "model" for a/model.gguf and a/model/.
std::string DefaultName(const std::string& path) {
  if (path == "-") return "stdin";
  const std::filesystem::path normal = std::filesystem::path(path + "/").lexically_normal().parent_path();
  return std::filesystem::is_directory(normal) ? normal.filename() : normal.stem();
}

}  // namespace

Result<std::vector<NamedFile>> ParseNamedFiles(const std::vector<std::string>& values,
                                               const std::string& flag) {
  std::vector<NamedFile> files;
  for (const std::string& value : values) {
    NamedFile file{.name = {}, .path = value};
    // A path may hold '=' too; a name holds no '/'.
    const size_t equals = value.find('=');
    if (equals != std::string::npos && value.find('/') > equals && !std::filesystem::exists(value)) {
      file = {value.substr(0, equals), value.substr(equals + 1)};
      if (file.name.empty()) {
        return MakeError(ErrorCode::kInvalidArgument, "{} {}: there is no name before '='", flag, value);
      }
    } else {
      file.name = DefaultName(value);
    }
    const auto same = std::find_if(files.begin(), files.end(), [&](auto& f) { return f.name == file.name; });
    if (same != files.end()) {
      return MakeError(ErrorCode::kInvalidArgument, "{} {}: another one is called {} too: give NAME=FILE",
                       flag, value, file.name);
    }
    files.push_back(std::move(file));
  }
  return files;
}

Result<std::vector<NamedText>> ReadTexts(const std::vector<std::string>& values, const std::string& flag) {
  ASSIGN_OR_RETURN(const std::vector<NamedFile> files, ParseNamedFiles(values, flag));
  std::vector<NamedText> texts;
  for (const NamedFile& file : files) {
    ASSIGN_OR_RETURN(std::string text, ReadTextOrStdin(file.path));
    texts.push_back({file, std::move(text)});
  }
  return texts;
}

Result<std::vector<NamedTask>> ReadTasks(const std::vector<std::string>& values) {
  ASSIGN_OR_RETURN(std::vector<NamedText> texts, ReadTexts(values, "--task"));
  std::vector<NamedTask> tasks;
  for (NamedText& text : texts) {
    ASSIGN_OR_RETURN(std::vector<ChoiceItem> items, ParseChoices(text.text, text.file.path));
    tasks.push_back({std::move(text), std::move(items)});
  }
  return tasks;
}

EvalInput HashText(const NamedText& text) {
  Sha256 hash;
  hash.Update(text.text);
  return {text.file.path, static_cast<int64_t>(text.text.size()), hash.Hex()};
}

Result<std::vector<TokenWindows>> SplitTexts(const LoadedModel& loaded, const std::vector<NamedText>& texts,
                                             int64_t n_ctx, int64_t max_windows) {
  std::vector<TokenWindows> out;
  for (const NamedText& text : texts) {
    auto windows =
        SplitIntoWindows(*loaded.tokenizer, text.text, n_ctx, max_windows, loaded.model->config().vocab_size);
    if (!windows) return MakeError(windows.error().code, "{}: {}", text.file.path, windows.error().message);
    out.push_back(std::move(*windows));
  }
  return out;
}

Result<LoadedReference> LoadReference(const std::string& path) {
  LoadedReference reference;
  if (SavedReference::Is(path)) {
    ASSIGN_OR_RETURN(reference.saved, SavedReference::Load(path));
  } else {
    ASSIGN_OR_RETURN(reference.model, Model::Load(path));
  }
  return reference;
}

SavedReference NewReference(const Model& model, int64_t n_ctx, int64_t top_k) {
  const int64_t vocab_size = model.config().vocab_size;
  return SavedReference({.model = model.file().path,
                         .model_sha256 = HashModel(model.file()),
                         .model_bytes = MeasureSize(model).file_bytes,
                         .n_ctx = n_ctx,
                         .vocab_size = vocab_size,
                         .top_k = std::min(top_k, vocab_size),
                         .n_tail = top_k});
}

void RecordFlags::Add(CLI::App& command) {
  command.add_option("--json", json, "Write the figures here");
  command.add_option("--report", report, "Write an HTML page here; thimble report joins several");
}

Status RecordFlags::Write(const Json& record, const std::string& title) const {
  if (!json.empty()) RETURN_IF_ERROR(WriteFileAtomically(json, DumpJson(record, 1) + "\n"));
  if (report.empty()) return {};
  ASSIGN_OR_RETURN(const std::string page, RenderReport({.records = {record}, .tunes = {}, .title = title}));
  return WriteFileAtomically(report, page);
}

}  // namespace thimble
