// Filters, tests and global functions.
#pragma once

#include <string_view>

#include "text/jinja_ops.h"

namespace thimble::jinja {

using Filter = Value (*)(Runtime& runtime, const Value& input, const CallArgs& args);
using Test = bool (*)(Runtime& runtime, const Value& input, const CallArgs& args);

// Null for an unknown name.
Filter FindFilter(std::string_view name);
Test FindTest(std::string_view name);

Value ApplyFilter(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args);
bool ApplyTest(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args);

// The parts of the filter table: text and numbers (jinja_filters.cc), sequences (jinja_sequence_filters.cc).
Filter FindSequenceFilter(std::string_view name);
// json.dumps(input, ensure_ascii, indent, separators, sort_keys) (jinja_json.cc).
Value ToJson(Runtime& runtime, const Value& input, const CallArgs& args);

// The value of a global function: range, dict, namespace, joiner, cycler, raise_exception, strftime_now
// (jinja_globals.cc).
std::vector<std::pair<std::string_view, Value>> GlobalFunctions();
// object.name = value, for the objects that namespace() makes.
void SetNamespaceAttribute(Runtime& runtime, const Value& object, const std::string& name,
                           const Value& value);

}  // namespace thimble::jinja
