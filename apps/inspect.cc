#include <fmt/core.h>

#include <cmath>

#include "apps/common.h"
#include "quant/inspect.h"

namespace thimble {
namespace {

void PrintField(const char* name, const std::string& value) {
  fmt::print("{:<15} {}\n", name, value);
}

std::string Plain(const Json& value) {
  return value.is_string() ? value.get<std::string>() : DumpJson(value);
}

std::string Count(int64_t n) {
  const double d = static_cast<double>(n);
  if (d >= 1e9) return fmt::format("{:.2f} billion", d / 1e9);
  return d >= 1e6 ? fmt::format("{:.1f} million", d / 1e6) : fmt::format("{}", n);
}

void PrintTypes(const Json& info) {
  fmt::print("\n{:<8} {:>8} {:>14} {:>11} {:>7}\n", "type", "tensors", "weights", "size", "share");
  const double all = std::max(1.0, info["n_parameters"].get<double>());
  for (const Json& t : info["types"]) {
    fmt::print("{:<8} {:>8} {:>14} {:>11} {:>6.1f} %\n", t["type"].get<std::string>(),
               t["tensors"].get<int64_t>(), t["weights"].get<int64_t>(),
               HumanBytes(t["bytes"].get<int64_t>()), 100 * t["weights"].get<double>() / all);
  }
}

void PrintModel(const Json& info) {
  const Json& config = info["config"];
  if (config.is_object()) {
    PrintField("layers",
               fmt::format("{} x ({} wide, {} heads of {}, {} key-value heads, feed-forward {})",
                           Plain(config["n_layers"]), Plain(config["d_model"]), Plain(config["n_heads"]),
                           Plain(config["head_dim"]), Plain(config["n_kv_heads"]), Plain(config["d_ff"])));
    const int64_t window = config["sliding_window"].get<int64_t>();
    PrintField("context", Plain(config["context_length"]) +
                              (window > 0 ? fmt::format(", sliding window {}", window) : ""));
    PrintField("output", config["tied_embeddings"] == true ? "tied to the embedding" : "a matrix of its own");
  }
  if (const Json& tokenizer = info["tokenizer"]; tokenizer.is_object()) {
    PrintField("tokenizer", fmt::format("{}, pre-tokenizer {}, {} tokens", Plain(tokenizer["model"]),
                                        Plain(tokenizer["pre"]), Plain(tokenizer["vocabulary"])));
    std::string special;
    for (const auto& [name, token] : tokenizer["special"].items()) {
      special += fmt::format("{}{} {} ({})", special.empty() ? "" : ", ", name, DumpJson(token["token"]),
                             Plain(token["id"]));
    }
    if (tokenizer["add_bos"] == true) special += "; BOS is put in front";
    PrintField("special tokens", special);
  }
  const Json& chat_template = info["chat_template"];
  PrintField("chat template", chat_template.is_string()
                                  ? fmt::format("{} characters", chat_template.get<std::string>().size())
                                  : "none");
}

void PrintAdapter(const Json& info) {
  if (info.contains("rank")) {
    PrintField("rank", Plain(info["rank"]) + ", alpha " + Plain(info["alpha"]));
    std::string targets;
    for (const Json& t : info["target_modules"]) targets += (targets.empty() ? "" : ", ") + Plain(t);
    PrintField("modules", targets);
  }
  if (info.contains("base") && info["base"] != "") PrintField("base", Plain(info["base"]));
}

void PrintMetadata(const Json& metadata) {
  fmt::print("\nmetadata\n");
  for (const auto& [key, value] : metadata.items()) {
    if (key == "tokenizer.chat_template") continue;
    std::string text = Plain(value);
    if (value.is_object() && value.contains("length")) {
      text = fmt::format("[{} {}]", Plain(value["length"]), Plain(value["type"]));
    }
    constexpr size_t kMaxLine = 100;
    if (text.size() > kMaxLine) text = DumpJson(Json(text.substr(0, kMaxLine))) + " ...";
    fmt::print("  {} = {}\n", key, text);
  }
}

void Print(const Json& info) {
  PrintField("file", info["path"].get<std::string>());
  PrintField("kind", info["kind"].get<std::string>() +
                         (info.contains("peft_type") ? ", " + Plain(info["peft_type"]) + " adapter" : ""));
  for (const char* key : {"architecture", "name", "file_type"}) {
    if (info.contains(key) && !info[key].is_null()) PrintField(key, Plain(info[key]));
  }
  PrintField(
      "size",
      fmt::format("{}, {} parameters, {:.2f} bits per weight", HumanBytes(info["bytes"].get<int64_t>()),
                  Count(info["n_parameters"].get<int64_t>()), info["bits_per_weight"].get<double>()));
  if (info.contains("config")) {
    PrintModel(info);
  } else {
    PrintAdapter(info);
  }
  PrintTypes(info);
  for (const Json& note : info["notes"]) fmt::print("\nNote: {}\n", note.get<std::string>());
  PrintMetadata(info["metadata"]);
  if (const auto& chat_template = info.value("chat_template", Json()); chat_template.is_string()) {
    fmt::print("\nchat template\n{}\n", chat_template.get<std::string>());
  }
  if (!info.contains("tensors")) return;
  fmt::print("\ntensors\n");
  for (const Json& t : info["tensors"]) {
    fmt::print("  {:<8} {:>10} {:<16} {}\n", Plain(t["type"]), HumanBytes(t["bytes"].get<int64_t>()),
               DumpJson(t["shape"]), Plain(t["name"]));
  }
}

}  // namespace

void AddInspect(CLI::App& app) {
  struct Flags {
    std::string path;
    bool json = false, tensors = false;
  };
  auto* command = app.add_subcommand("inspect", "Show what a model or adapter is made of");
  auto flags = std::make_shared<Flags>();
  command->add_option("FILE", flags->path, "GGUF file, Hugging Face folder, PEFT folder or GGUF LoRA")
      ->required();
  command->add_flag("--json", flags->json, "As JSON");
  command->add_flag("--tensors", flags->tensors, "List every tensor");
  command->callback(Runs([flags]() -> Status {
    ASSIGN_OR_RETURN(const Json info, Inspect(flags->path, flags->tensors));
    if (flags->json) {
      fmt::print("{}\n", DumpJson(info, 2));
    } else {
      Print(info);
    }
    return {};
  }));
}

}  // namespace thimble
