#include "text/tokenizer.h"

#include "text/encoder.h"
#include "text/vocabulary.h"

namespace thimble {

struct Tokenizer::Impl {
  Vocabulary vocabulary;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::Create(TokenizerSpec spec, const std::string& source) {
  std::unique_ptr<Impl> impl(new Impl{Vocabulary(std::move(spec))});
  RETURN_IF_ERROR(impl->vocabulary.Index(source));
  return Tokenizer(std::move(impl));
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, bool add_special, bool parse_special) const {
  const TokenizerSpec& s = spec();
  Encoder encoder(impl_->vocabulary);
  if (add_special && s.add_bos && s.bos) encoder.Add(*s.bos);
  encoder.Encode(text, parse_special);
  if (add_special && s.add_eos && s.eos) encoder.Add(*s.eos);
  return encoder.TakeIds();
}

std::string Tokenizer::TokenBytes(TokenId id, bool with_special) const {
  if (id < 0 || id >= vocab_size()) return {};
  const TokenType type = spec().types[static_cast<size_t>(id)];
  if (!with_special && (type == TokenType::kControl || type == TokenType::kUnknown)) return {};
  return impl_->vocabulary.Bytes(id);
}

std::string Tokenizer::Decode(const std::vector<TokenId>& ids, bool with_special) const {
  std::string out;
  for (TokenId id : ids) out += TokenBytes(id, with_special);
  return spec().space_prefix != SpacePrefix::kNone && out.starts_with(' ') ? out.substr(1) : out;
}

const TokenizerSpec& Tokenizer::spec() const {
  return impl_->vocabulary.spec;
}

std::optional<TokenId> Tokenizer::Find(std::string_view token) const {
  const TokenId id = impl_->vocabulary.Find(token);
  return id < 0 ? std::nullopt : std::optional<TokenId>(id);
}

bool Tokenizer::IsEndOfGeneration(TokenId id) const {
  return id >= 0 && id < vocab_size() && impl_->vocabulary.ends_generation[static_cast<size_t>(id)];
}

}  // namespace thimble
