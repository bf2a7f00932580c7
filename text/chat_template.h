// Chat templates: an interpreter for the part of Jinja2 that model makers use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace thimble {

struct ChatTemplateInputs {
  Json messages = Json::array();  // [{"role", "content", ...}]
  Json tools = nullptr;           // array, or null for none
  Json extra = Json::object();    // further variables (enable_thinking, ...)
  bool add_generation_prompt = false;
  std::string bos_token, eos_token;
  std::optional<int64_t> now;  // Unix time for strftime_now; the clock if absent
};

// Parsed once, rendered many times; Render is const and thread-safe.
// Behaves as Jinja2's ImmutableSandboxedEnvironment with Transformers' settings: trim_blocks, lstrip_blocks,
// loop controls, tojson = json.dumps(ensure_ascii=False) with `indent`, raise_exception, strftime_now.
// Known differences: integers end at 127 bits; a filter or test that does not exist is an error only where it
// is used; a variable of the caller that the template sets at its top level keeps its old value before that
// (Jinja2 calls it undefined inside of blocks); addresses of objects are not printed.
class ChatTemplate {
 public:
  static Result<ChatTemplate> Parse(std::string_view source, const std::string& name = "chat template");
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Errors: raise_exception's text, an undefined operation with its line, or a limit (recursion, steps,
  // output bytes).
  Result<std::string> Render(const ChatTemplateInputs& inputs) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thimble
