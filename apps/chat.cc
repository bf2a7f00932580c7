#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "apps/common.h"
#include "base/file.h"

namespace thimble {
namespace {

constexpr const char* kHelp =
    "/adapter list          the loaded adapters and their scales\n"
    "/adapter NAME          this adapter alone, at scale 1\n"
    "/adapter NAME=SCALE    set one adapter's scale, leave the others (0 is off)\n"
    "/adapter off           the base model alone\n"
    "/adapter load PATH[=SCALE]\n"
    "/system TEXT           a new system message, and a new conversation (no TEXT: none)\n"
    "/clear                 a new conversation\n"
    "/regen                 the last answer once more\n"
    "/help                  this list\n"
    "/exit                  leave, as do Ctrl-D and two Ctrl-C\n"
    "A line that ends in \\ goes on in the next. Ctrl-C stops an answer.\n";

struct ChatFlags {
  std::string model, system, chat_template;
  int64_t n_predict = -1, n_ctx = 0;
  std::vector<std::string> stop;
  bool quiet = false;
  ComputeFlags compute;
  KvFlags kv;
  AdapterFlags adapters;
  SamplingFlags sampling;
  DraftFlags draft;
};

// Lines of standard input. Unlike std::getline it comes back when Ctrl-C is pressed.
class LineReader {
 public:
  enum class Event { kLine, kEnd, kInterrupt };

  Event Next(std::string& line) {
    for (;;) {
      if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
        line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        if (line.ends_with('\r')) line.pop_back();
        told_ = false;
        return Event::kLine;
      }
      pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      // Looks up now and then: a Ctrl-C just before poll, or one that another thread caught, does not wake
      // it.
      const int ready = poll(&input, 1, 100);
      if (ready < 0 && errno != EINTR) return Event::kEnd;
      if (Interrupted() && !told_) {
        told_ = true;
        return Event::kInterrupt;
      }
      if (ready <= 0) continue;
      char bytes[4096];
      const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
      if (n > 0) {
        buffer_.append(bytes, static_cast<size_t>(n));
      } else if (buffer_.empty()) {
        return Event::kEnd;
      } else {
        buffer_ += '\n';  // the last line may lack its end
      }
    }
  }

 private:
  std::string buffer_;
  bool told_ = false;  // of the Ctrl-C since the last line
};

// "name" of "path/name/" and of "path/name.gguf".
std::string ShortName(const std::string& path) {
  std::filesystem::path p(path);
  if (!p.has_filename()) p = p.parent_path();
  return p.extension() == ".gguf" ? p.stem() : p.filename();
}

class Chat {
 public:
  Chat(const ChatFlags& flags, const Context& ctx, const LoadedModel& loaded, KvTypes kv,
       LoadedAdapters adapters)
      : flags_(flags),
        ctx_(ctx),
        loaded_(loaded),
        adapters_(std::move(adapters)),
        session_(ctx, *loaded.model, *loaded.tokenizer, flags.n_ctx, kv),
        sampling_(flags.sampling.Resolve()),
        draft_(flags.draft.options),
        terminal_(isatty(STDIN_FILENO) != 0) {
    session_.SetAdapters(adapters_.applied);
    Clear(flags.system);
  }

  // Until the input ends or /exit. From a pipe, an error becomes the exit status at the end.
  Status Run() {
    ASSIGN_OR_RETURN(drafter_, LoadDrafter(flags_.draft, ctx_, loaded_, session_.n_ctx()));
    draft_.drafter = drafter_.drafter.get();
    if (terminal_ && !flags_.quiet) {
      fmt::print(stderr, "{}, context {} tokens. /help lists the commands.\n", flags_.model,
                 session_.n_ctx());
    }
    LineReader reader;
    std::string text;
    for (bool more = false; !exit_;) {
      if (terminal_) Say(more ? ". " : "> ");
      std::string line;
      const auto event = reader.Next(line);
      if (event == LineReader::Event::kEnd) break;
      if (event == LineReader::Event::kInterrupt) {
        fmt::print(stderr, "\nCtrl-C once more leaves, as does Ctrl-D.\n");
        continue;
      }
      ClearInterrupt();
      more = line.ends_with('\\');
      if (more) line.back() = '\n';
      text += line;
      if (more) continue;
      const std::string turn = std::exchange(text, {});
      const Status status = turn.starts_with('/') ? Command(turn) : turn.empty() ? Status{} : Turn(turn);
      if (!status) {
        fmt::print(stderr, "thimble: {}\n", status.error().message);
        failed_ = status;
      }
    }
    if (terminal_) Say("\n");
    return terminal_ ? Status{} : failed_;
  }

 private:
  static void Say(std::string_view text) {
    fmt::print("{}", text);
    std::fflush(stdout);
  }

  void Clear(const std::string& system) {
    messages_ = Json::array();
    if (!system.empty()) messages_.push_back({{"role", "system"}, {"content", system}});
  }

  Status Turn(const std::string& text) {
    messages_.push_back({{"role", "user"}, {"content", text}});
    const Status status = Reply();
    if (!status) messages_.erase(messages_.size() - 1);  // as if it had not been said
    return status;
  }

  // The assistant's turn after the last message.
  Status Reply() {
    ASSIGN_OR_RETURN(const std::vector<TokenId> prompt, EncodeChat(loaded_, messages_));
    const GenerateOptions options{flags_.n_predict, flags_.stop, false, sampling_, draft_};
    ++sampling_.seed;  // another answer for /regen
    if (static_cast<int64_t>(prompt.size()) >= session_.n_ctx()) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          "the conversation has {} tokens with this message, but the context holds {}; nothing is "
          "dropped silently: /clear begins anew, --ctx-size makes room",
          prompt.size(), session_.n_ctx());
    }
    ASSIGN_OR_RETURN(const Generation out, session_.Generate(prompt, options, [](const std::string& piece) {
      Say(piece);
      return !Interrupted();
    }));
    Say("\n");
    ClearInterrupt();
    messages_.push_back({{"role", "assistant"}, {"content", out.text}});
    if (out.reason == FinishReason::kContextFull) {
      fmt::print(stderr, "[the context of {} tokens is full: /clear begins anew, --ctx-size makes room]\n",
                 session_.n_ctx());
    }
    if (terminal_ && !flags_.quiet) {
      fmt::print(stderr, "[{} tokens, {:.1f} tokens/s{}; prompt {} tokens, {} of them cached]\n",
                 out.tokens.size(),
                 out.decode_seconds > 0 ? static_cast<double>(out.tokens.size()) / out.decode_seconds : 0.0,
                 DraftText(out), out.n_prompt, out.n_cached);
    }
    return {};
  }

  Status Command(const std::string& line) {
    const size_t space = line.find_first_of(" \n");
    const std::string name = line.substr(0, space);
    std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
    if (name == "/exit" || name == "/quit") {
      exit_ = true;
    } else if (name == "/help") {
      Say(kHelp);
    } else if (name == "/clear") {
      const bool system = !messages_.empty() && messages_[0]["role"] == "system";
      Clear(system ? messages_[0]["content"].get<std::string>() : "");
    } else if (name == "/system") {
      Clear(argument);
    } else if (name == "/adapter") {
      return AdapterCommand(argument);
    } else if (name == "/regen") {
      if (messages_.empty() || messages_.back()["role"] != "assistant") {
        return MakeError(ErrorCode::kInvalidArgument, "/regen: there is no answer yet");
      }
      messages_.erase(messages_.size() - 1);
      return Reply();
    } else {
      return MakeError(ErrorCode::kInvalidArgument, "{}: no such command; /help lists them", name);
    }
    return {};
  }

  Status AdapterCommand(const std::string& argument) {
    if (argument.empty() || argument == "list") {
      for (size_t i = 0; i < adapters_.applied.size(); ++i) {
        Say(fmt::format("{}={:g}  {}\n", Name(i), adapters_.applied[i].scale, adapters_.adapters[i]->name));
      }
      if (adapters_.applied.empty()) Say("no adapters; /adapter load PATH\n");
      return {};
    }
    if (argument.starts_with("load ")) {
      ASSIGN_OR_RETURN(LoadedAdapters more, LoadAdapters({argument.substr(5)}, *loaded_.model));
      adapters_.adapters.push_back(std::move(more.adapters[0]));
      adapters_.applied.push_back(more.applied[0]);
    } else if (argument == "off") {
      for (AppliedAdapter& a : adapters_.applied) a.scale = 0;
    } else {
      const size_t equals = argument.rfind('=');
      ASSIGN_OR_RETURN(const size_t chosen, FindAdapter(argument.substr(0, equals)));
      float scale = 1;
      if (equals == std::string::npos) {
        for (AppliedAdapter& a : adapters_.applied) a.scale = 0;
      } else {
        ASSIGN_OR_RETURN(scale, ParseScale(argument.substr(equals + 1), "/adapter " + argument));
        RETURN_IF_ERROR(CheckScale(*adapters_.adapters[chosen], scale));
      }
      adapters_.applied[chosen].scale = scale;
    }
    session_.SetAdapters(adapters_.applied);
    return {};
  }

  // Its file's or folder's name; with a number where two have the same.
  std::string Name(size_t i) const {
    const std::string name = ShortName(adapters_.adapters[i]->name);
    int same = 1;
    for (size_t j = 0; j < i; ++j) same += ShortName(adapters_.adapters[j]->name) == name;
    return same == 1 ? name : fmt::format("{}-{}", name, same);
  }

  Result<size_t> FindAdapter(const std::string& name) const {
    std::string known;
    for (size_t i = 0; i < adapters_.adapters.size(); ++i) {
      if (name == Name(i) || name == adapters_.adapters[i]->name) return i;
      known += (i > 0 ? ", " : "") + Name(i);
    }
    return MakeError(ErrorCode::kNotFound, "/adapter {}: not loaded; there is {}", name,
                     known.empty() ? "none" : known);
  }

  const ChatFlags& flags_;
  const Context& ctx_;
  const LoadedModel& loaded_;
  LoadedAdapters adapters_;
  Session session_;
  SamplingParams sampling_;
  LoadedDrafter drafter_;
  DraftOptions draft_;
  Json messages_;
  const bool terminal_;
  bool exit_ = false;
  Status failed_;
};

}  // namespace

void AddChat(CLI::App& app) {
  auto* command = app.add_subcommand("chat", "Talk with a model");
  auto flags = std::make_shared<ChatFlags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  command->add_option("--system,--system-prompt", flags->system, "System message");
  command->add_option("--chat-template", flags->chat_template, "A Jinja file instead of the model's own");
  command->add_option("-n,--n-predict", flags->n_predict, "Tokens of an answer at most (-1: until its end)")
      ->capture_default_str();
  command->add_option("-c,--ctx-size", flags->n_ctx, "Context in tokens (default: the model's, at most 4096)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--stop", flags->stop, "End an answer before this string; repeatable");
  command->add_flag("-q,--quiet", flags->quiet, "Print the answers only");
  flags->sampling.Add(*command);
  flags->draft.Add(*command);
  flags->adapters.Add(*command);
  flags->kv.Add(*command);
  flags->compute.Add(*command);
  command->callback(Runs([flags]() -> Status {
    ASSIGN_OR_RETURN(const Context ctx, flags->compute.MakeContext());
    ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(flags->model));
    if (!flags->chat_template.empty()) {
      ASSIGN_OR_RETURN(const std::string source, ReadFile(flags->chat_template));
      ASSIGN_OR_RETURN(loaded.chat_template, ChatTemplate::Parse(source, flags->chat_template));
    }
    if (!loaded.chat_template) {
      return MakeError(ErrorCode::kUnsupported,
                       "{}: has no chat template; give one with --chat-template, or continue plain text with "
                       "thimble run",
                       flags->model);
    }
    ASSIGN_OR_RETURN(LoadedAdapters adapters, LoadAdapters(flags->adapters.paths, *loaded.model));
    ASSIGN_OR_RETURN(const KvTypes kv, flags->kv.Resolve(loaded.model->config()));
    return Chat(*flags, ctx, loaded, kv, std::move(adapters)).Run();
  }));
}

}  // namespace thimble
