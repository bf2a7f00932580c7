#include <fmt/core.h>

#include "apps/common.h"

namespace thimble {

void AddTokenize(CLI::App& app) {
  struct Flags {
    std::string model, text, file;
    bool no_special = false, json = false;
  };
  auto* command = app.add_subcommand("tokenize", "Print the token ids of a text");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  auto* source = command->add_option_group("source", "One of")->require_option(1);
  source->add_option("--text", flags->text, "The text");
  source->add_option("--file", flags->file, "A file with the text, - for standard input");
  command->add_flag("--no-special", flags->no_special,
                    "Neither add BOS/EOS nor read control tokens written in the text");
  command->add_flag("--json", flags->json, "A JSON array of ids, instead of an id and its text per line");
  command->callback(Runs([flags, source]() -> Status {
    ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(flags->model));
    ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(file));
    std::string text = flags->text;
    if (source->get_option("--file")->count() > 0) {
      ASSIGN_OR_RETURN(text, ReadTextOrStdin(flags->file));
    }
    const std::vector<TokenId> ids = tokenizer.Encode(text, !flags->no_special, !flags->no_special);
    if (flags->json) {
      fmt::print("{}\n", DumpJson(Json(ids)));
    } else {
      for (TokenId id : ids) fmt::print("{}\t{}\n", id, DumpJson(Json(tokenizer.TokenBytes(id, true))));
    }
    return {};
  }));
}

void AddDetokenize(CLI::App& app) {
  struct Flags {
    std::string model;
    std::vector<TokenId> ids;
    bool with_special = false;
  };
  auto* command = app.add_subcommand("detokenize", "Print the text of token ids");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  command->add_option("--ids", flags->ids, "Ids with commas between them")->required()->delimiter(',');
  command->add_flag("--special", flags->with_special, "Write control tokens too");
  command->callback(Runs([flags]() -> Status {
    ASSIGN_OR_RETURN(const ModelFile file, OpenModelFile(flags->model));
    ASSIGN_OR_RETURN(const Tokenizer tokenizer, LoadTokenizer(file));
    for (TokenId id : flags->ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) {
        return MakeError(ErrorCode::kInvalidArgument, "--ids: {} is outside the vocabulary of {}", id,
                         tokenizer.vocab_size());
      }
    }
    fmt::print("{}", tokenizer.Decode(flags->ids, flags->with_special));
    return {};
  }));
}

}  // namespace thimble
