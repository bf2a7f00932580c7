// Texts to calibrate on, choose by and score with: documents, dealt so that no document serves two purposes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace thimble {

// Texts of one kind: a language, code, conversations.
struct TextPart {
  std::string name;                    // "en", "ko", "code", "chat", or a file's
  std::vector<std::string> documents;  // plain text, or where `chat` a JSON object with "messages"
  bool chat = false;
};

// English, German, French, Korean, Japanese, Chinese, code, and conversations.
Result<std::vector<TextPart>> DefaultTexts();
// Of a file's contents: conversations, one JSON object per line, where the first line is one; else documents
// that a line holding only "---" separates; without such a line, stretches of about 4 kB that end at a line's
// end.
Result<TextPart> ParseTextPart(std::string name, std::string_view content);

enum class TextPurpose {
  kCalibration,  // eight documents of ten
  kSelection,    // one of ten: what choices are corrected by
  kScoring,      // one of ten
};
// A part with fewer than ten documents gives its last ones to selection and scoring, as far as it has them.
TextPart Deal(const TextPart& part, TextPurpose purpose);

// Of a part: its documents one after another, cut into windows of n_ctx tokens; what is left over is a
// shorter window if it has at least an eighth of that. The first token of each is BOS if the model adds one.
// Conversations go through the chat template, or without one are their contents.
Result<std::vector<std::vector<TokenId>>> Windows(const TextPart& part, const Tokenizer& tokenizer,
                                                  const ChatTemplate* chat_template, int64_t n_ctx);

// At most max_tokens from all parts, evenly, where shorter parts leave their share to the others. Where not
// even the first windows fit, the beginnings of them.
std::vector<std::vector<TokenId>> TakeEvenly(const std::vector<std::vector<std::vector<TokenId>>>& parts,
                                             int64_t max_tokens);

}  // namespace thimble
