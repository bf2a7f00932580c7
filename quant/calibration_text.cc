#include "quant/calibration_text.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/json.h"
#include "quant/default_texts.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

constexpr size_t kStretch = 4096;  // bytes of a document that the text does not mark
constexpr size_t kDealt = 10;

// An object with "messages", each with "role" and "content".
bool IsChat(std::string_view line) {
  const auto json = ParseJson(line, "conversation");
  if (!json || !json->is_object() || !json->contains("messages") || !(*json)["messages"].is_array())
    return false;
  return std::ranges::all_of((*json)["messages"], [](const Json& message) {
    return message.is_object() && message.contains("role") && message["role"].is_string() &&
           message.contains("content") && message["content"].is_string();
  });
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

bool IsMark(std::string_view line) {
  return line == "---" || line == "---\n" || line == "---\r\n";
}

Result<std::string> DocumentText(const TextPart& part, const std::string& document,
                                 const Tokenizer& tokenizer, const ChatTemplate* chat_template) {
  if (!part.chat) return document;
  ASSIGN_OR_RETURN(const Json json, ParseJson(document, part.name));
  if (chat_template != nullptr) {
    ChatTemplateInputs inputs = InputsWithSpecialTokens(tokenizer);
    inputs.messages = json["messages"];
    if (auto text = chat_template->Render(inputs)) return text;
    // A template may refuse a role, such as "system".
  }
  std::string text;
  for (const Json& message : json["messages"]) text += message["content"].get<std::string>() + "\n";
  return text;
}

}  // namespace

Result<TextPart> ParseTextPart(std::string name, std::string_view content) {
  TextPart part{std::move(name)};
  const std::vector<std::string_view> lines = Lines(content);
  part.chat = !lines.empty() && IsChat(lines[0]);
  if (part.chat) {
    for (size_t i = 0; i < lines.size(); ++i) {
      if (lines[i].find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
      if (!IsChat(lines[i])) {
        return MakeError(ErrorCode::kInvalidArgument,
                         "{}: line {} is not a JSON object with \"messages\" of \"role\" and \"content\"",
                         part.name, i + 1);
      }
      part.documents.emplace_back(lines[i]);
    }
    return part;
  }
  const bool marked = std::ranges::any_of(lines, IsMark);
  std::string document;
  const auto end_document = [&] {
    if (document.find_first_not_of(" \t\r\n") != std::string::npos)
      part.documents.push_back(std::move(document));
    document.clear();
  };
  for (const std::string_view line : lines) {
    const bool mark = marked && IsMark(line);
    if (!mark) document += line;
    if (mark || (!marked && document.size() >= kStretch)) end_document();
  }
  end_document();
  if (part.documents.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}: holds no text", part.name);
  return part;
}

Result<std::vector<TextPart>> DefaultTexts() {
  const std::pair<const char*, std::string_view> texts[] = {
      {"en", kEnglishTxt}, {"de", kGermanTxt},     {"fr", kFrenchTxt},
      {"ko", kKoreanTxt},  {"ja", kJapaneseTxt},   {"zh", kChineseTxt},
      {"code", kCodeTxt},  {"chat", kChatEnJsonl}, {"chat, other", kChatMultiJsonl}};
  std::vector<TextPart> parts;
  for (const auto& [name, content] : texts) {
    ASSIGN_OR_RETURN(TextPart part, ParseTextPart(name, content));
    parts.push_back(std::move(part));
  }
  return parts;
}

TextPart Deal(const TextPart& part, TextPurpose purpose) {
  TextPart dealt{part.name, {}, part.chat};
  const size_t n = part.documents.size();
  for (size_t i = 0; i < n; ++i) {
    const size_t place = n >= kDealt ? i % kDealt : kDealt - std::min(n - i, kDealt);
    const bool own = place == kDealt - 1   ? purpose == TextPurpose::kScoring && n > 1
                     : place == kDealt - 2 ? purpose == TextPurpose::kSelection && n > 2
                                           : purpose == TextPurpose::kCalibration;
    const bool only = n <= 2 && purpose == TextPurpose::kCalibration && (n == 1 || i == 0);
    if (own || only) dealt.documents.push_back(part.documents[i]);
  }
  return dealt;
}

Result<std::vector<std::vector<TokenId>>> Windows(const TextPart& part, const Tokenizer& tokenizer,
                                                  const ChatTemplate* chat_template, int64_t n_ctx) {
  std::vector<TokenId> tokens;
  for (const std::string& document : part.documents) {
    ASSIGN_OR_RETURN(const std::string text, DocumentText(part, document, tokenizer, chat_template));
    const std::vector<TokenId> encoded = tokenizer.Encode(text, false, part.chat);
    tokens.insert(tokens.end(), encoded.begin(), encoded.end());
  }
  std::vector<std::vector<TokenId>> windows;
  const bool bos = tokenizer.spec().add_bos && tokenizer.spec().bos;
  const size_t size = static_cast<size_t>(n_ctx);
  for (size_t begin = 0; begin < tokens.size(); begin += size) {
    const size_t end = std::min(tokens.size(), begin + size);
    if (end - begin < std::max<size_t>(size / 8, 2)) break;
    auto& window = windows.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                                        tokens.begin() + static_cast<std::ptrdiff_t>(end));
    if (bos) window[0] = *tokenizer.spec().bos;
  }
  return windows;
}

std::vector<std::vector<TokenId>> TakeEvenly(const std::vector<std::vector<std::vector<TokenId>>>& parts,
                                             int64_t max_tokens) {
  std::vector<std::vector<TokenId>> taken;
  int64_t left = max_tokens, n_parts = 0, firsts = 0;
  for (const auto& windows : parts) {
    n_parts += !windows.empty();
    firsts += windows.empty() ? 0 : std::ssize(windows[0]);
  }
  if (firsts > max_tokens) {  // a piece of each
    for (const auto& windows : parts) {
      const int64_t size =
          std::min<int64_t>(max_tokens / n_parts, windows.empty() ? 0 : std::ssize(windows[0]));
      if (size >= 2) taken.emplace_back(windows[0].begin(), windows[0].begin() + size);
    }
    return taken;
  }
  for (size_t i = 0, found = 1; found > 0; ++i) {
    found = 0;
    for (const auto& windows : parts) {
      if (i >= windows.size()) continue;
      ++found;
      if (static_cast<int64_t>(windows[i].size()) > left) continue;
      left -= static_cast<int64_t>(windows[i].size());
      taken.push_back(windows[i]);
    }
  }
  return taken;
}

}  // namespace thimble
