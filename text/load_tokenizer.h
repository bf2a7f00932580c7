// The tokenizer and chat template that come with a model.
#pragma once

#include <optional>

#include "base/result.h"
#include "formats/model_file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace thimble {

Result<Tokenizer> LoadTokenizer(const ModelFile& file);

// Empty if the model has none. `source` goes into errors.
Result<std::optional<ChatTemplate>> LoadChatTemplate(const Tokenizer& tokenizer,
                                                     const std::string& source = "tokenizer");

// For a template: the tokenizer's BOS and EOS, nothing else.
ChatTemplateInputs InputsWithSpecialTokens(const Tokenizer& tokenizer);

}  // namespace thimble
