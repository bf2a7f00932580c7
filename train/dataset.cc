#include "train/dataset.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

// Text of one role in an example: learned or only read.
struct Piece {
  std::string text;
  bool learned;
  bool parse_special;
};

ChatTemplateInputs TemplateInputs(const Json& line, const Tokenizer& tokenizer) {
  ChatTemplateInputs inputs = InputsWithSpecialTokens(tokenizer);
  if (line.contains("tools")) inputs.tools = line["tools"];
  return inputs;
}

// With the line's place in front of the template's own error.
Result<std::string> Render(const ChatTemplate& tmpl, const ChatTemplateInputs& inputs,
                           const std::string& where) {
  auto text = tmpl.Render(inputs);
  if (!text) return MakeError(text.error().code, "{}: {}", where, text.error().message);
  return text;
}

bool IsAssistant(const Json& message) {
  return message.is_object() && message.contains("role") && message["role"] == "assistant";
}

struct Line {
  std::vector<Piece> pieces;
  bool add_special = true;  // BOS/EOS; a chat template writes its own
};

// Renders the conversation up to each assistant turn and including it; what the turn added is learned. Where
// a template rewrites earlier turns when more follow (Qwen3 drops their reasoning), what was before a turn is
// no longer part of what comes after it, so that turn becomes an example of its own: as it is met at run
// time.
Result<std::vector<Line>> ChatLines(const Json& line, const Tokenizer& tokenizer, const ChatTemplate* tmpl,
                                    const std::string& where) {
  const Json& messages = line["messages"];
  if (tmpl == nullptr) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: has messages, but the model has no chat template",
                     where);
  }
  if (!messages.is_array() || messages.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: \"messages\" is not a list of messages", where);
  }
  ChatTemplateInputs inputs = TemplateInputs(line, tokenizer);
  std::vector<Line> lines;
  std::string done;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!IsAssistant(messages[i])) {
      inputs.messages.push_back(messages[i]);
      continue;
    }
    inputs.add_generation_prompt = true;
    ASSIGN_OR_RETURN(const std::string before, Render(*tmpl, inputs, where));
    inputs.messages.push_back(messages[i]);
    inputs.add_generation_prompt = false;
    ASSIGN_OR_RETURN(const std::string after, Render(*tmpl, inputs, where));
    if (!after.starts_with(before)) {
      return MakeError(
          ErrorCode::kUnsupported,
          "{}: the chat template does not begin message {} as it asks for an answer, so what is to "
          "be learned is unclear; use prompt and completion lines",
          where, i + 1);
    }
    if (lines.empty() || !before.starts_with(done)) {
      lines.push_back({.add_special = false});
      done.clear();
    }
    lines.back().pieces.push_back({before.substr(done.size()), false, true});
    lines.back().pieces.push_back({after.substr(before.size()), true, true});
    done = after;
  }
  if (lines.empty())
    return MakeError(ErrorCode::kInvalidArgument, "{}: no assistant message to learn", where);
  return lines;
}

Result<std::string> StringField(const Json& line, const char* key, const std::string& where) {
  auto it = line.find(key);
  if (it == line.end() || !it->is_string()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: \"{}\" is missing or not a string", where, key);
  }
  return it->get<std::string>();
}

// The examples of a line: one, save for chats whose template rewrites earlier turns.
Result<std::vector<Line>> LinesOf(const Json& line, const Tokenizer& tokenizer, const ChatTemplate* tmpl,
                                  const std::string& where) {
  if (!line.is_object()) return MakeError(ErrorCode::kInvalidArgument, "{}: not a JSON object", where);
  if (line.contains("messages")) return ChatLines(line, tokenizer, tmpl, where);
  if (line.contains("prompt")) {
    ASSIGN_OR_RETURN(std::string prompt, StringField(line, "prompt", where));
    ASSIGN_OR_RETURN(std::string completion, StringField(line, "completion", where));
    return std::vector<Line>{{{{std::move(prompt), false, false}, {std::move(completion), true, false}}}};
  }
  if (line.contains("text")) {
    ASSIGN_OR_RETURN(std::string text, StringField(line, "text", where));
    return std::vector<Line>{{{{std::move(text), true, false}}}};
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   "{}: needs \"text\", \"prompt\" and \"completion\", or \"messages\"", where);
}

// Tokenizes piece by piece, as the prompt and the answer are at run time.
Example ToExample(const Line& line, const Tokenizer& tokenizer, int64_t max_length, bool* truncated) {
  std::vector<TokenId> tokens;
  std::vector<bool> learned;
  for (size_t p = 0; p < line.pieces.size(); ++p) {
    const Piece& piece = line.pieces[p];
    std::vector<TokenId> ids = tokenizer.Encode(piece.text, line.add_special && p == 0, piece.parse_special);
    // An EOS that the tokenizer adds belongs at the end of the example only.
    if (p == 0 && line.add_special && tokenizer.spec().add_eos && !ids.empty()) ids.pop_back();
    // Generation stops at the token that ends a turn: what a template writes behind it is not learned.
    size_t n_learned = piece.learned ? ids.size() : 0;
    if (piece.learned && !line.add_special) {
      const auto end =
          std::find_if(ids.rbegin(), ids.rend(), [&](TokenId id) { return tokenizer.IsEndOfGeneration(id); });
      if (end != ids.rend()) n_learned = static_cast<size_t>(ids.rend() - end);
    }
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    learned.resize(learned.size() + n_learned, true);
    learned.resize(tokens.size(), false);
  }
  if (line.add_special && tokenizer.spec().eos) {
    tokens.push_back(*tokenizer.spec().eos);
    learned.push_back(true);
  }
  *truncated = static_cast<int64_t>(tokens.size()) > max_length;
  if (*truncated) tokens.resize(static_cast<size_t>(max_length));
  Example example;
  example.labels.assign(tokens.size(), -1);
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    if (learned[i + 1]) example.labels[i] = tokens[i + 1];
  }
  example.tokens = std::move(tokens);
  return example;
}

// Calls fn(line, where) for each non-empty line of a JSONL file.
Status ForEachLine(const std::string& path,
                   const std::function<Status(const Json&, const std::string&)>& fn) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, number);
    ASSIGN_OR_RETURN(const Json json, ParseJson(line, where));
    RETURN_IF_ERROR(fn(json, where));
  }
  return {};
}

}  // namespace

Result<Dataset> LoadDataset(const std::string& path, const Tokenizer& tokenizer,
                            const ChatTemplate* chat_template, const DatasetOptions& options) {
  Dataset dataset;
  RETURN_IF_ERROR(ForEachLine(path, [&](const Json& json, const std::string& where) -> Status {
    ASSIGN_OR_RETURN(const std::vector<Line> lines, LinesOf(json, tokenizer, chat_template, where));
    for (const Line& line : lines) {
      bool truncated = false;
      Example example = ToExample(line, tokenizer, options.max_seq_length, &truncated);
      const int64_t n_labels =
          std::count_if(example.labels.begin(), example.labels.end(), [](TokenId t) { return t >= 0; });
      dataset.n_truncated += truncated;
      if (n_labels == 0) {
        ++dataset.n_dropped;
        continue;
      }
      dataset.n_tokens += static_cast<int64_t>(example.tokens.size());
      dataset.n_labels += n_labels;
      dataset.examples.push_back(std::move(example));
    }
    return {};
  }));
  if (dataset.examples.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: no example to learn from ({} have nothing to learn{})",
                     path, dataset.n_dropped,
                     dataset.n_truncated > 0 ? " within the longest sequence; raise it" : "");
  }
  return dataset;
}

Result<std::vector<PromptAndAnswer>> LoadPrompts(const std::string& path, const Tokenizer& tokenizer,
                                                 const ChatTemplate* chat_template) {
  std::vector<PromptAndAnswer> prompts;
  RETURN_IF_ERROR(ForEachLine(path, [&](const Json& json, const std::string& where) -> Status {
    if (json.is_object() && json.contains("messages")) {
      const Json& messages = json["messages"];
      if (chat_template == nullptr) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: has messages, but the model has no chat template",
                         where);
      }
      if (!messages.is_array() || messages.empty() || !IsAssistant(messages.back())) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: the last message is not the assistant's", where);
      }
      ASSIGN_OR_RETURN(std::string answer, StringField(messages.back(), "content", where));
      ChatTemplateInputs inputs = TemplateInputs(json, tokenizer);
      inputs.messages = messages;
      inputs.messages.erase(inputs.messages.size() - 1);
      inputs.add_generation_prompt = true;
      ASSIGN_OR_RETURN(const std::string prompt, chat_template->Render(inputs));
      prompts.push_back({tokenizer.Encode(prompt, false, true), std::move(answer)});
    } else {
      if (!json.is_object()) return MakeError(ErrorCode::kInvalidArgument, "{}: not a JSON object", where);
      ASSIGN_OR_RETURN(const std::string prompt, StringField(json, "prompt", where));
      ASSIGN_OR_RETURN(std::string answer, StringField(json, "completion", where));
      std::vector<TokenId> ids = tokenizer.Encode(prompt, true, false);
      if (tokenizer.spec().add_eos && !ids.empty()) ids.pop_back();
      prompts.push_back({std::move(ids), std::move(answer)});
    }
    return {};
  }));
  if (prompts.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}: no prompts", path);
  return prompts;
}

int64_t TrainBatch::n_labels() const {
  return std::count_if(labels.begin(), labels.end(), [](TokenId t) { return t >= 0; });
}

TrainBatch MakeBatch(const std::vector<const Example*>& examples) {
  TrainBatch batch;
  for (const Example* example : examples) {
    batch.tokens.insert(batch.tokens.end(), example->tokens.begin(), example->tokens.end());
    batch.labels.insert(batch.labels.end(), example->labels.begin(), example->labels.end());
    batch.lengths.push_back(static_cast<int64_t>(example->tokens.size()));
  }
  return batch;
}

std::vector<std::vector<const Example*>> DealBatches(const Dataset& dataset, int64_t batch_size, bool pack,
                                                     int64_t max_seq_length, uint64_t seed) {
  std::vector<size_t> order(dataset.examples.size());
  std::iota(order.begin(), order.end(), 0);
  Random random(seed);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);

  std::vector<std::vector<const Example*>> batches;
  int64_t used = 0;
  const int64_t capacity = batch_size * max_seq_length;
  for (size_t index : order) {
    const Example* example = &dataset.examples[index];
    const int64_t length = static_cast<int64_t>(example->tokens.size());
    const bool full = batches.empty() || (pack ? used + length > capacity
                                               : static_cast<int64_t>(batches.back().size()) == batch_size);
    if (full) {
      batches.emplace_back();
      used = 0;
    }
    batches.back().push_back(example);
    used += length;
  }
  return batches;
}

}  // namespace thimble
