// Tokens of a template, with Jinja2's white space rules under trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace thimble::jinja {

enum class Token : uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct LexedToken {
  Token type = Token::kEnd;
  int line = 1;
  std::string text;  // data, name, operator, or the decoded string
  Value number;      // kInteger, kFloat
};

// `source` must be UTF-8. Throws kSyntax with the line. The last token is kEnd.
std::vector<LexedToken> Tokenize(std::string_view source);

}  // namespace thimble::jinja
