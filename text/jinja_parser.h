#pragma once

#include <string_view>

#include "text/jinja_ast.h"

namespace thimble::jinja {

// Nesting of expressions and statements in a template's text.
inline constexpr int kMaxSyntaxDepth = 200;

// `source` must be UTF-8. Throws TemplateError (kSyntax, with the line).
Body ParseTemplate(std::string_view source);

}  // namespace thimble::jinja
