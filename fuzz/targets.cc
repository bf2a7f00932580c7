#include "fuzz/targets.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/check.h"
#include "base/file.h"
#include "eval/saved_reference.h"
#include "model/model.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

Status UseTokenizer(const ModelFile& file) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(file));
  const auto ids =
      tokenizer.Encode("Hello <s> w\xc3\xb6rld 12, \xed\x95\x9c\xea\xb8\x80\n\n \xff", true, true);
  StreamingDetokenizer stream(tokenizer, true);
  for (const TokenId id : ids) stream.Push(id);
  stream.Flush();
  ASSIGN_OR_RETURN(const auto chat_template, LoadChatTemplate(tokenizer, file.path));
  if (!chat_template) return {};
  ChatTemplateInputs inputs{.add_generation_prompt = true};
  inputs.messages = {{{"role", "system"}, {"content", "Be brief."}}, {{"role", "user"}, {"content", "Hi"}}};
  RETURN_IF_ERROR(chat_template->Render(inputs));
  return {};
}

Status LoadModelFile(const std::string& path) {
  ASSIGN_OR_RETURN(const auto model, Model::Load(path));
  RETURN_IF_ERROR(UseTokenizer(model->file()));
  static ThreadPool pool(1);
  const auto last = static_cast<int32_t>(model->config().vocab_size - 1);
  const std::array<int32_t, 4> tokens = {0, last, last / 2, 1 % (last + 1)};
  const Context ctx{.pool = pool};
  Logits(ctx, *model, ForwardHidden(ctx, *model, {.tokens = tokens}));
  return {};
}

Status LoadFolderOf(const std::string& path) {
  return LoadModelFile(fs::path(path).parent_path());
}

Status LoadTokenizerOf(const std::string& path) {
  ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(fs::path(path).parent_path()));
  return UseTokenizer(file);
}

Status LoadTemplate(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string source, ReadFile(path));
  ASSIGN_OR_RETURN(const ChatTemplate chat_template, ChatTemplate::Parse(source, path));
  ChatTemplateInputs inputs{.add_generation_prompt = true, .bos_token = "<s>", .eos_token = "</s>", .now = 0};
  inputs.messages = {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Hello"}}};
  RETURN_IF_ERROR(chat_template.Render(inputs));
  return {};
}

// The windows of tests/golden/reference.tref (eval/saved_reference_test.cc), against a model that expects
// nothing.
Status LoadReference(const std::string& path) {
  ASSIGN_OR_RETURN(const SavedReference reference, SavedReference::Load(path));
  TokenWindows windows{.n_ctx = reference.header().n_ctx, .tokens = {}};
  for (TokenId i = 0; i < 24; ++i) windows.tokens.push_back(i * 7 % 50);
  const int64_t vocab_size = reference.header().vocab_size;
  RETURN_IF_ERROR(reference.Covers(windows, vocab_size));
  const std::vector<float> logits(static_cast<size_t>(vocab_size));
  for (int64_t i = 0; i < windows.size(); ++i) {
    ASSIGN_OR_RETURN(const std::vector<Prediction> predictions, reference.Find(windows[i]));
    for (const Prediction& prediction : predictions) ScoreAgainst(logits, prediction, 0);
  }
  return {};
}

constexpr std::array<FuzzTarget, 6> kTargets = {{
    {"gguf", "model.gguf", LoadModelFile},
    {"safetensors", "model/model.safetensors", LoadFolderOf},
    {"config", "model/config.json", LoadFolderOf},
    {"tokenizer", "model/tokenizer.json", LoadTokenizerOf},
    {"template", "model/chat_template.jinja", LoadTemplate},
    {"reference", "reference.tref", LoadReference},
}};

}  // namespace

std::span<const FuzzTarget> FuzzTargets() {
  return kTargets;
}

const FuzzTarget* FindFuzzTarget(std::string_view name) {
  for (const FuzzTarget& target : kTargets) {
    if (target.name == name) return &target;
  }
  return nullptr;
}

FuzzScratch::FuzzScratch(const FuzzTarget& target) : target_(target) {
  folder_ = (fs::temp_directory_path() / "thimble-fuzz-XXXXXX").string();
  CHECK(::mkdtemp(folder_.data()) != nullptr);
  fs::copy(THIMBLE_SOURCE_DIR "/tests/golden/models/llama", folder_ + "/model");
  path_ = folder_ + "/" + target.file;
}

FuzzScratch::~FuzzScratch() {
  std::error_code ec;
  fs::remove_all(folder_, ec);
}

Status FuzzScratch::Load(std::string_view bytes) const {
  std::ofstream(path_, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return target_.load(path_);
}

}  // namespace thimble
