// What eval, compare and fit share: texts with names, what to compare with, where the figures go.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/common.h"
#include "eval/record.h"
#include "eval/saved_reference.h"

namespace thimble {

// FILE or NAME=FILE; without a name, the file's own without its ending.
struct NamedFile {
  std::string name, path;
};
// `flag` goes into the error; names must differ.
Result<std::vector<NamedFile>> ParseNamedFiles(const std::vector<std::string>& values,
                                               const std::string& flag);

struct NamedText {
  NamedFile file;
  std::string text;
};
Result<std::vector<NamedText>> ReadTexts(const std::vector<std::string>& values,
                                         const std::string& flag = "--text");

EvalInput HashText(const NamedText& text);

struct NamedTask {
  NamedText text;
  std::vector<ChoiceItem> items;
};
Result<std::vector<NamedTask>> ReadTasks(const std::vector<std::string>& values);

// The windows of each text. Errors name the text.
Result<std::vector<TokenWindows>> SplitTexts(const LoadedModel& loaded, const std::vector<NamedText>& texts,
                                             int64_t n_ctx, int64_t max_windows);

// A model, or what eval --save-reference wrote.
struct LoadedReference {
  std::unique_ptr<Model> model;
  std::optional<SavedReference> saved;
};
Result<LoadedReference> LoadReference(const std::string& path);

// An empty reference for predictions of `model`: `top_k` tokens and as many from the tail at each position.
SavedReference NewReference(const Model& model, int64_t n_ctx, int64_t top_k);

// --json and --report.
struct RecordFlags {
  std::string json, report;
  void Add(CLI::App& command);
  Status Write(const Json& record, const std::string& title) const;  // where they are given
};

inline constexpr const char* kTaskHelp =
    "Multiple choice, FILE.jsonl or NAME=FILE.jsonl: lines of {\"query\", \"choices\", \"gold\"} (or "
    "question, "
    "ctx; endings; answer, label), scored by log-likelihood as lm-evaluation-harness does; repeatable";
inline constexpr int64_t kReferenceTopK = 32;  // the divergence is then within 0.5 % (docs/formats/tref.md)

}  // namespace thimble
