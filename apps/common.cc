#include "apps/common.h"

#include <fmt/core.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include "apps/scoring.h"
#include "base/clock.h"
#include "base/file.h"
#include "formats/model_hash.h"

namespace thimble {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

void OnInterrupt(int) {
  if (g_interrupted != 0) {
    RemoveTemporaryFiles();
    _exit(130);
  }
  g_interrupted = 1;
}

// What SetLastWords said; a text stays as it is while the handler may write it.
std::atomic<const char*> g_last_words{nullptr};

void OnTerminate(int signal) {
  RemoveTemporaryFiles();
  const char* const words = g_last_words;
  if (words != nullptr && write(STDERR_FILENO, words, std::strlen(words)) < 0) _exit(1);
  _exit(128 + signal);
}

std::unique_ptr<Ranks> g_ranks;  // where mpirun started several processes

// The ranks that may run on the same processors of the same machine share them.
int ShareOfProcessors(Ranks& ranks) {
  cpu_set_t set;
  CPU_ZERO(&set);
  char host[256] = "";
  if (ranks.size() == 1 || sched_getaffinity(0, sizeof(set), &set) != 0 ||
      gethostname(host, sizeof(host) - 1) != 0) {
    return 0;
  }
  const std::string mine = host + std::string(reinterpret_cast<const char*>(&set), sizeof(set));
  const std::vector<std::string> all = ranks.Gather(mine);
  return std::max(1, NumProcessors() / static_cast<int>(std::count(all.begin(), all.end(), mine)));
}

// Bytes; as much as there can be where the system does not say.
uint64_t FreeMemory() {
  const std::string kilobytes = ProcValue("/proc/meminfo", "MemAvailable");
  uint64_t bytes = kilobytes.empty() ? UINT64_MAX : std::strtoull(kilobytes.c_str(), nullptr, 10) * 1024;
  uint64_t allowed = 0;  // to this process's group; not a number where that is everything
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> allowed) bytes = std::min(bytes, allowed);
  return bytes;
}

std::string HumanTime(double seconds) {
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

}  // namespace

std::function<void()> Runs(std::function<Status()> body, OnCancel on_cancel) {
  return [body = std::move(body), on_cancel] {
    const Status status = body();
    g_last_words = nullptr;  // the words of a command that has ended
    if (status) return;
    std::fflush(stdout);
    const bool cancelled = status.error().code == ErrorCode::kCancelled;
    if (g_ranks == nullptr) {
      fmt::print(stderr, "thimble: {}\n", status.error().message);
    } else if (!cancelled || on_cancel == OnCancel::kEndAll) {
      // The others may be waiting for this one.
      fmt::print(stderr, "thimble: rank {}: {}\n", g_ranks->rank(), status.error().message);
      g_ranks->Abort(cancelled ? 130 : 1);
    } else if (g_ranks->first()) {
      fmt::print(stderr, "thimble: {}\n", status.error().message);
    }
    throw CLI::RuntimeError(cancelled ? 130 : 1);
  };
}

void ComputeFlags::Add(CLI::App& command, const std::string& default_compute) {
  command.add_option("-t,--threads", threads, "Threads (default: all processors)")
      ->check(CLI::Range(0, 1024));
  AddCompute(command, default_compute);
}

void ComputeFlags::AddCompute(CLI::App& command, const std::string& default_compute) {
  compute = default_compute;
  command
      .add_option(
          "--compute", compute,
          "How products with quantized weights are computed: int8 (activations rounded to int8, the deployed "
          "kernels), bf16 (everything rounded to BF16, for which the processor needs instructions) or f32")
      ->check(CLI::IsMember({"int8", "bf16", "f32"}))
      ->capture_default_str();
}

Result<Context> ComputeFlags::MakeContext() const {
  if (const int n = LaunchedRanks(); n > 1) {
    return MakeError(
        ErrorCode::kUnsupported,
        "{} processes were started together, but this command runs as one; tune, eval and imatrix "
        "share their work",
        n);
  }
  return MakeContextOn(OneRank());
}

Result<Context> ComputeFlags::JoinContext() const {
  if (LaunchedRanks() > 1) {
    ASSIGN_OR_RETURN(g_ranks, JoinRanks());
    if (!g_ranks->first() && std::freopen("/dev/null", "w", stdout) == nullptr) {
      return MakeError(ErrorCode::kIo, "/dev/null: cannot be opened");
    }
  }
  return MakeContextOn(g_ranks != nullptr ? *g_ranks : OneRank());
}

Result<Context> ComputeFlags::MakeContextOn(Ranks& ranks) const {
  const char* isa = std::getenv("THIMBLE_ISA");
  if (isa != nullptr && *isa != '\0' && FindKernels(isa) == nullptr) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "THIMBLE_ISA={}: not a tier that this processor runs; see thimble doctor", isa);
  }
  if (compute == Name(Compute::kBf16) && Kernels().matmul_bf16 == nullptr) {
    return MakeError(
        ErrorCode::kUnsupported,
        "--compute bf16: this processor's kernels ({}) multiply no BF16; int8 and f32 run everywhere",
        Kernels().name);
  }
  static ThreadPool pool(threads > 0 ? threads : ShareOfProcessors(ranks));
  Context ctx{.pool = pool, .ranks = ranks};
  for (const Compute one : {Compute::kF32, Compute::kBf16, Compute::kInt8}) {
    if (compute == Name(one)) ctx.compute = one;
  }
  return ctx;
}

void KvFlags::Add(CLI::App& command) {
  const auto add = [&](const char* name, std::string& value, const char* what) {
    command.add_option(name, value, what)->check(CLI::IsMember({"f32", "f16", "q8_0", "q4_0"}));
  };
  add("--cache-type-k", k, "Type of the cache's keys, also -ctk (default: f16)");
  add("--cache-type-v", v, "Type of the cache's values, also -ctv (default: f16)");
}

Result<KvTypes> KvFlags::Resolve(const ModelConfig& config) const {
  KvTypes types;
  if (!k.empty()) types.k = *ParseWeightType(k);
  if (!v.empty()) types.v = *ParseWeightType(v);
  RETURN_IF_ERROR(KvCache::Check(config, types));
  return types;
}

Result<LoadedModel> LoadModel(const std::string& path) {
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.model, Model::Load(path));
  ASSIGN_OR_RETURN(loaded.tokenizer, LoadTokenizer(loaded.model->file()));
  ASSIGN_OR_RETURN(loaded.chat_template, LoadChatTemplate(*loaded.tokenizer, path));
  return loaded;
}

Result<std::vector<TokenId>> EncodeChat(const LoadedModel& loaded, const Json& messages) {
  ChatTemplateInputs inputs = InputsWithSpecialTokens(*loaded.tokenizer);
  inputs.messages = messages;
  inputs.add_generation_prompt = true;
  ASSIGN_OR_RETURN(const std::string text, loaded.chat_template->Render(inputs));
  return loaded.tokenizer->Encode(text, false, true);
}

void CalibrationFlags::Add(CLI::App& command) {
  cache = CalibrationOptions::DefaultCacheDir();
  command.add_option(
      "--calibration", texts,
      "[NAME=]FILE, text or JSONL conversations, instead of Thimble's own six languages, code and "
      "chat; repeatable. A line --- separates documents; of ten, eight are calibrated on");
  command.add_option("--calibration-tokens", tokens, "At most (default: 49152)")->check(CLI::PositiveNumber);
  command.add_option(
      "--calibration-memory", memory,
      "Memory for a pass's statistics, e.g. 2GiB; what does not fit takes further passes over the "
      "text, with the same result (default: half of the memory that is free)");
  command.add_option("--cache", cache, "Where calibrations are kept for the next time")
      ->capture_default_str();
}

Result<CalibrationOptions> CalibrationFlags::Resolve(std::vector<EvalInput>* inputs) const {
  CalibrationOptions options{.cache_dir = cache};
  if (tokens > 0) options.max_tokens = tokens;
  options.limits.max_bytes = FreeMemory() / 2 / static_cast<uint64_t>(LaunchedRanksHere());
  if (!memory.empty()) {
    ASSIGN_OR_RETURN(options.limits.max_bytes, ParseBytes("--calibration-memory", memory));
  }
  if (texts.empty()) {
    ASSIGN_OR_RETURN(options.texts, DefaultTexts());
    for (const TextPart& part : options.texts) {
      if (inputs == nullptr) break;
      NamedText text{{part.name, "built-in text: " + part.name}, {}};
      for (const std::string& document : part.documents) text.text += document;
      inputs->push_back(HashText(text));
    }
  }
  ASSIGN_OR_RETURN(const std::vector<NamedText> files, ReadTexts(texts, "--calibration"));
  for (const NamedText& file : files) {
    ASSIGN_OR_RETURN(TextPart part, ParseTextPart(file.file.path, file.text));
    part.name = file.file.name;
    options.texts.push_back(std::move(part));
    if (inputs != nullptr) inputs->push_back(HashText(file));
  }
  return options;
}

Result<CachedCalibration> CalibrateModel(const Context& ctx, const LoadedModel& loaded,
                                         const CalibrationOptions& options) {
  return CalibrateOrLoad(ctx, *loaded.model, *loaded.tokenizer,
                         loaded.chat_template ? &*loaded.chat_template : nullptr, options,
                         TerminalProgress());
}

void AdapterFlags::Add(CLI::App& command) {
  command.add_option("--adapter,--lora", paths,
                     "An adapter: a PEFT folder (LoRA, DoRA, IA3, prompt or prefix tuning) or a GGUF file, "
                     "PATH or PATH=SCALE; repeatable");
}

Result<float> ParseScale(const std::string& text, const std::string& what) {
  char* end = nullptr;
  const float scale = std::strtof(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(scale)) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: the scale after '=' is not a number", what);
  }
  return scale;
}

void WarnOfAnotherBase(const Adapter& adapter, const Model& model) {
  const auto base = adapter.notes.find(kBaseNote);
  if (base == adapter.notes.end() || base->second == Fingerprint(model.file())) return;
  fmt::print(stderr,
             "thimble: warning: {} was trained on another base than {}; thimble adapter rebase fits it to "
             "this one\n",
             adapter.name, model.file().path);
}

std::string AdapterPath(const std::string& flag) {
  return flag.substr(0, flag.rfind('='));
}

Result<LoadedAdapters> LoadAdapters(const std::vector<std::string>& paths, const Model& model) {
  LoadedAdapters loaded;
  for (const std::string& text : paths) {
    float scale = 1;
    if (const size_t equals = text.rfind('='); equals != std::string::npos) {
      ASSIGN_OR_RETURN(scale, ParseScale(text.substr(equals + 1), "--adapter " + text));
    }
    ASSIGN_OR_RETURN(Adapter adapter, LoadAdapter(AdapterPath(text), model));
    RETURN_IF_ERROR(CheckScale(adapter, scale));
    WarnOfAnotherBase(adapter, model);
    loaded.adapters.push_back(std::make_unique<Adapter>(std::move(adapter)));
    loaded.applied.push_back({.adapter = loaded.adapters.back().get(), .scale = scale});
  }
  return loaded;
}

void SamplingFlags::Add(CLI::App& command) {
  command.add_option("--temp,--temperature", params.temperature, "0 always takes the most likely token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command.add_option("--top-k", params.top_k, "0 is off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--top-p", params.top_p, "1 is off")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  command.add_option("--min-p", params.min_p, "0 is off")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  command.add_option("--repeat-penalty", params.repeat_penalty, "1 is off")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  command.add_option("--repeat-last-n", params.repeat_last_n, "Tokens that the penalty looks back at")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("-s,--seed", seed, "-1 takes one from the clock")->capture_default_str();
}

SamplingParams SamplingFlags::Resolve() const {
  SamplingParams resolved = params;
  resolved.seed = seed >= 0
                      ? static_cast<uint64_t>(seed)
                      : static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  return resolved;
}

void DraftFlags::Add(CLI::App& command) {
  auto* file = command.add_option(
      "--model-draft", model,
      "-md: a smaller model of the same vocabulary that guesses ahead; the answer stays the same");
  command
      .add_option("--spec-type", type,
                  "ngram-simple: guess ahead what came after the last tokens when they came before")
      ->check(CLI::IsMember({"none", "ngram-simple"}))
      ->capture_default_str()
      ->excludes(file);
  command.add_option("--draft-max,--draft", options.max, "Tokens to guess at most")
      ->check(CLI::Range(int64_t{1}, DraftOptions::kMost))
      ->capture_default_str();
  command.add_option("--draft-min", options.min, "Shorter guesses are not tried")
      ->check(CLI::Range(int64_t{0}, DraftOptions::kMost))
      ->capture_default_str();
}

Result<LoadedDrafter> LoadDrafter(const DraftFlags& flags, const Context& ctx, const LoadedModel& target,
                                  int64_t n_ctx) {
  LoadedDrafter loaded;
  if (flags.type == "ngram-simple") loaded.drafter = std::make_unique<NgramDrafter>();
  if (!flags.model.empty()) {
    ASSIGN_OR_RETURN(loaded.model, LoadModel(flags.model));
    ASSIGN_OR_RETURN(loaded.drafter, ModelDrafter::Create(ctx, *loaded.model.model, *loaded.model.tokenizer,
                                                          *target.tokenizer, n_ctx));
  }
  return loaded;
}

std::string DraftText(const Generation& out) {
  if (out.n_drafted == 0) return "";
  return fmt::format(", guessed {} tokens, {} of them right ({:.0f} %)", out.n_drafted, out.n_accepted,
                     100.0 * static_cast<double>(out.n_accepted) / static_cast<double>(out.n_drafted));
}

void InstallInterruptHandler() {
  std::signal(SIGINT, OnInterrupt);
  std::signal(SIGTERM, OnTerminate);
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an ordinary write error
}

void SetLastWords(const std::string& words) {
  // Few enough to keep, to the very end: the handler may write the last ones while the process is exiting.
  static auto& all = *new std::vector<std::unique_ptr<const std::string>>;
  const std::string who = g_ranks != nullptr ? fmt::format("rank {}: ", g_ranks->rank()) : "";
  all.push_back(
      std::make_unique<const std::string>(fmt::format("thimble: {}ended from outside; {}\n", who, words)));
  g_last_words = all.back()->c_str();
}

bool Interrupted() {
  return g_interrupted != 0;
}

void ClearInterrupt() {
  g_interrupted = 0;
}

ProgressFn TerminalProgress() {
  struct State {
    std::string stage;
    double begin = 0, shown = 0;
    double first = 0, last = 0;  // done when it began (a resumed run starts in the middle), and now
  };
  auto state = std::make_shared<State>();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const bool silent = g_ranks != nullptr && !g_ranks->first();
  return [state, terminal, silent](const Progress& p) {
    if (silent) return !Interrupted();
    const double now = Seconds();
    // A log gets its first line after a while, however often short stages begin again.
    const double shown = !terminal && state->stage.empty() ? now : state->shown;
    if (p.stage != state->stage || p.done < state->last) *state = {p.stage, now, shown, p.done};
    state->last = p.done;
    const bool finished = p.total > 0 && p.done >= p.total;
    if (now - state->shown >= (terminal ? 0.1 : 10) || (finished && terminal)) {
      state->shown = now;
      const double elapsed = now - state->begin, rate = elapsed > 0 ? (p.done - state->first) / elapsed : 0;
      std::string line = fmt::format("{}: {:.0f}", p.stage, p.done);
      if (p.total > 0) line += fmt::format("/{:.0f}", p.total);
      line += fmt::format(" {}", p.unit);
      if (elapsed > 0.5) line += fmt::format(", {:.1f} {}/s", rate, p.unit);
      if (p.total > p.done && rate > 0 && elapsed > 0.5)
        line += ", " + HumanTime((p.total - p.done) / rate) + " left";
      if (!p.note.empty()) line += ", " + p.note;
      if (terminal) {
        fmt::print(stderr, "\r\x1b[K{}{}", line, finished ? "\r\x1b[K" : "");
      } else {
        fmt::print(stderr, "{}\n", line);
      }
      std::fflush(stderr);
    }
    return !Interrupted();
  };
}

std::string ProcValue(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

Result<uint64_t> ParseBytes(const std::string& flag, const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit(end);
  unit.erase(std::remove(unit.begin(), unit.end(), ' '), unit.end());
  std::ranges::transform(unit, unit.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::pair<const char*, double> units[] = {
      {"", 1},    {"b", 1},   {"kb", 1e3},     {"mb", 1e6},     {"gb", 1e9},    {"k", 1e3},
      {"m", 1e6}, {"g", 1e9}, {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}};
  for (const auto& [name, factor] : units) {
    const double bytes = number * factor;
    if (end != text.c_str() && unit == name && bytes >= 1 && bytes < 0x1p63)
      return static_cast<uint64_t>(bytes);
  }
  return MakeError(ErrorCode::kInvalidArgument, "{}: '{}' is not a size such as 80MB or 1.2GiB", flag, text);
}

std::string HumanBytes(int64_t bytes) {
  const double b = static_cast<double>(bytes);
  if (b >= 1e9) return fmt::format("{:.2f} GB", b / 1e9);
  if (b >= 1e6) return fmt::format("{:.1f} MB", b / 1e6);
  if (b >= 1e3) return fmt::format("{:.1f} kB", b / 1e3);
  return fmt::format("{} bytes", bytes);
}

Result<std::string> ReadTextOrStdin(const std::string& path) {
  if (path != "-") return ReadFile(path);
  return std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
}

namespace {

// As a POSIX shell reads it back.
std::string Quoted(const std::string& word) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) != 0 || c >= 0x80 || std::strchr("_@%+=:,./-", c);
  };
  if (!word.empty() && std::ranges::all_of(word, plain)) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string CommandLine(const CLI::App& command) {
  std::string line = "thimble " + command.get_name();
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0) continue;
    for (const std::string& value : option->results()) {
      if (!option->get_positional()) line += " " + option->get_name(false, false);
      if (option->get_expected_max() > 0) line += " " + Quoted(value);
    }
  }
  return line;
}

}  // namespace thimble
