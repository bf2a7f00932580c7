#include "text/chat_template.h"

#include "text/jinja_filters.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_parser.h"

namespace thimble {
namespace {

constexpr size_t kMaxSourceBytes = size_t{1} << 22;

tl::unexpected<Error> Described(const std::string& name, ErrorCode code, const jinja::TemplateError& error) {
  if (error.line == 0) return MakeError(code, "{}: {}", name, error.what());
  return MakeError(code, "{}, line {}: {}", name, error.line, error.what());
}

}  // namespace

struct ChatTemplate::Impl {
  std::string name;
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source, const std::string& name) {
  if (source.size() > kMaxSourceBytes) {
    return MakeError(ErrorCode::kUnsupported, "{}: a template may have at most {} bytes, this one has {}",
                     name, kMaxSourceBytes, source.size());
  }
  auto impl = std::make_unique<Impl>();
  impl->name = name;
  try {
    impl->body = jinja::ParseTemplate(jinja::ToValidUtf8(source));
  } catch (const jinja::TemplateError& error) {
    return Described(name, ErrorCode::kCorrupt, error);
  }
  return ChatTemplate(std::move(impl));
}

Result<std::string> ChatTemplate::Render(const ChatTemplateInputs& inputs) const {
  using jinja::Value;
  if (!inputs.extra.is_object()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: further variables must be a JSON object", impl_->name);
  }
  try {
    jinja::Runtime runtime(inputs.now);
    const auto variables = std::make_shared<jinja::Scope>(nullptr);
    for (auto& [name, function] : jinja::GlobalFunctions()) variables->Set(runtime, name, function);
    variables->Set(runtime, "messages", Value::FromJson(inputs.messages));
    variables->Set(runtime, "tools", Value::FromJson(inputs.tools));
    variables->Set(runtime, "documents", Value::None());  // Transformers passes it always
    variables->Set(runtime, "add_generation_prompt", Value::Bool(inputs.add_generation_prompt));
    variables->Set(runtime, "bos_token", runtime.Text(jinja::ToValidUtf8(inputs.bos_token)));
    variables->Set(runtime, "eos_token", runtime.Text(jinja::ToValidUtf8(inputs.eos_token)));
    for (const auto& [name, value] : inputs.extra.items()) {
      variables->Set(runtime, jinja::ToValidUtf8(name), Value::FromJson(value));
    }
    std::string text;
    jinja::Interpreter interpreter(runtime);
    interpreter.Execute(impl_->body, std::make_shared<jinja::Scope>(variables), &text);
    return text;
  } catch (const jinja::TemplateError& error) {
    return Described(impl_->name, ErrorCode::kInvalidArgument, error);
  }
}

}  // namespace thimble
