#include <fmt/core.h>

#include "apps/common.h"
#include "base/file.h"

namespace thimble {

void AddTemplate(CLI::App& app) {
  struct Flags {
    std::string model, messages, tools, bos, eos, extra;
    bool add_generation_prompt = false;
  };
  auto* command = app.add_subcommand("template", "Print a conversation as a chat template writes it");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->model, "Model, or a .jinja file")->required();
  command->add_option("--messages", flags->messages, "JSON file with the list of messages")->required();
  command->add_option("--tools", flags->tools, "JSON file with the list of tools");
  command->add_option("--chat-template-kwargs", flags->extra, "JSON object with further variables");
  auto* bos = command->add_option("--bos", flags->bos, "bos_token (default: the model's)");
  auto* eos = command->add_option("--eos", flags->eos, "eos_token (default: the model's)");
  command->add_flag("--add-generation-prompt", flags->add_generation_prompt,
                    "End where the assistant begins");
  command->callback(Runs([flags, bos, eos]() -> Status {
    ChatTemplateInputs inputs;
    std::optional<ChatTemplate> chat_template;
    if (flags->model.ends_with(".jinja")) {
      ASSIGN_OR_RETURN(const std::string source, ReadFile(flags->model));
      ASSIGN_OR_RETURN(chat_template, ChatTemplate::Parse(source, flags->model));
    } else {
      ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(flags->model));
      ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(file));
      ASSIGN_OR_RETURN(chat_template, LoadChatTemplate(tokenizer));
      if (!chat_template) return MakeError(ErrorCode::kNotFound, "{}: has no chat template", flags->model);
      inputs = InputsWithSpecialTokens(tokenizer);
    }
    if (bos->count() > 0) inputs.bos_token = flags->bos;
    if (eos->count() > 0) inputs.eos_token = flags->eos;
    ASSIGN_OR_RETURN(inputs.messages, ReadJsonFile(flags->messages));
    if (!flags->tools.empty()) {
      ASSIGN_OR_RETURN(inputs.tools, ReadJsonFile(flags->tools));
    }
    if (!flags->extra.empty()) {
      ASSIGN_OR_RETURN(inputs.extra, ParseJson(flags->extra, "--chat-template-kwargs"));
    }
    inputs.add_generation_prompt = flags->add_generation_prompt;
    ASSIGN_OR_RETURN(const std::string text, chat_template->Render(inputs));
    fmt::print("{}", text);
    return {};
  }));
}

}  // namespace thimble
