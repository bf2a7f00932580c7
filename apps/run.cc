#include <fmt/core.h>

#include <cstdio>

#include "apps/common.h"

namespace thimble {
namespace {

const char* ReasonText(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "end of text";
    case FinishReason::kLength:
      return "token limit";
    case FinishReason::kContextFull:
      return "context full; nothing was dropped, raise --ctx-size to go on";
    case FinishReason::kCancelled:
      return "interrupted";
  }
  return "";
}

}  // namespace

void AddRun(CLI::App& app) {
  struct Flags {
    std::string model, prompt, file;
    int64_t n_predict = -1, n_ctx = 0;
    std::vector<std::string> stop;
    bool raw = false, ignore_eos = false, quiet = false;
    std::string system;
    ComputeFlags compute;
    KvFlags kv;
    AdapterFlags adapters;
    SamplingFlags sampling;
    DraftFlags draft;
  };
  auto* command = app.add_subcommand("run", "Answer one prompt");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  auto* source = command->add_option_group("source", "One of")->require_option(1);
  source->add_option("-p,--prompt", flags->prompt, "The prompt");
  source->add_option("-f,--file", flags->file, "A file with the prompt, - for standard input");
  command->add_option("--system", flags->system, "System message");
  command->add_flag("--raw,--no-chat", flags->raw,
                    "Continue the prompt as plain text, without the chat template");
  command->add_option("-n,--n-predict", flags->n_predict, "Tokens to generate at most (-1: until the end)")
      ->capture_default_str();
  command->add_option("-c,--ctx-size", flags->n_ctx, "Context in tokens (default: the model's, at most 4096)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--stop", flags->stop, "End before this string; repeatable");
  command->add_flag("--ignore-eos", flags->ignore_eos, "Go on after the end-of-text token");
  command->add_flag("-q,--quiet", flags->quiet, "Print the text only, no speed");
  flags->sampling.Add(*command);
  flags->draft.Add(*command);
  flags->adapters.Add(*command);
  flags->kv.Add(*command);
  flags->compute.Add(*command);
  command->callback(Runs([flags]() -> Status {
    ASSIGN_OR_RETURN(const Context ctx, flags->compute.MakeContext());
    ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(flags->model));
    ASSIGN_OR_RETURN(const LoadedAdapters adapters, LoadAdapters(flags->adapters.paths, *loaded.model));
    std::string text = flags->prompt;
    if (!flags->file.empty()) {
      ASSIGN_OR_RETURN(text, ReadTextOrStdin(flags->file));
    }
    const bool chat = !flags->raw && loaded.chat_template.has_value();
    std::vector<TokenId> ids;
    if (chat) {
      Json messages = Json::array();
      if (!flags->system.empty()) messages.push_back({{"role", "system"}, {"content", flags->system}});
      messages.push_back({{"role", "user"}, {"content", text}});
      ASSIGN_OR_RETURN(ids, EncodeChat(loaded, messages));
    } else {
      ids = loaded.tokenizer->Encode(text, true, false);
      if (loaded.tokenizer->spec().add_eos && ids.size() > 1) ids.pop_back();
    }
    ASSIGN_OR_RETURN(const KvTypes kv, flags->kv.Resolve(loaded.model->config()));
    Session session(ctx, *loaded.model, *loaded.tokenizer, flags->n_ctx, kv);
    session.SetAdapters(adapters.applied);
    ASSIGN_OR_RETURN(const LoadedDrafter drafter, LoadDrafter(flags->draft, ctx, loaded, session.n_ctx()));
    GenerateOptions options{flags->n_predict, flags->stop, flags->ignore_eos, flags->sampling.Resolve(),
                            flags->draft.options};
    options.draft.drafter = drafter.drafter.get();
    ASSIGN_OR_RETURN(const Generation out, session.Generate(ids, options, [](const std::string& piece) {
      fmt::print("{}", piece);
      std::fflush(stdout);
      return !Interrupted();
    }));
    fmt::print("\n");
    if (!flags->quiet) {
      fmt::print(stderr, "[prompt {} tokens, {:.1f} tokens/s; generated {} tokens, {:.1f} tokens/s{}; {}]\n",
                 out.n_prompt, static_cast<double>(out.n_prompt) / out.prompt_seconds, out.tokens.size(),
                 out.decode_seconds > 0 ? static_cast<double>(out.tokens.size()) / out.decode_seconds : 0.0,
                 DraftText(out), ReasonText(out.reason));
    }
    return {};
  }));
}

}  // namespace thimble
