#include "text/load_tokenizer.h"

namespace thimble {

Result<Tokenizer> LoadTokenizer(const ModelFile& file) {
  TokenizerSpec spec;
  if (file.gguf) {
    ASSIGN_OR_RETURN(spec, TokenizerSpecFromGguf(file.gguf->metadata, file.path));
  } else {
    const HfDirectory& hf = *file.hf;
    if (!hf.tokenizer) return MakeError(ErrorCode::kNotFound, "{}: tokenizer.json is missing", file.path);
    ASSIGN_OR_RETURN(
        spec, TokenizerSpecFromHf(*hf.tokenizer, hf.tokenizer_config ? &*hf.tokenizer_config : nullptr,
                                  hf.generation_config ? &*hf.generation_config : nullptr, hf.chat_template,
                                  file.path));
  }
  return Tokenizer::Create(std::move(spec), file.path);
}

Result<std::optional<ChatTemplate>> LoadChatTemplate(const Tokenizer& tokenizer, const std::string& source) {
  std::optional<ChatTemplate> chat_template;
  if (!tokenizer.spec().chat_template.empty()) {
    ASSIGN_OR_RETURN(chat_template,
                     ChatTemplate::Parse(tokenizer.spec().chat_template, source + ": chat template"));
  }
  return chat_template;
}

ChatTemplateInputs InputsWithSpecialTokens(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  ChatTemplateInputs inputs;
  if (spec.bos) inputs.bos_token = spec.tokens[*spec.bos];
  if (spec.eos) inputs.eos_token = spec.tokens[*spec.eos];
  return inputs;
}

}  // namespace thimble
