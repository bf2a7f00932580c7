// What the commands share: flags, errors, progress, interrupts.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "engine/session.h"
#include "model/adapter.h"
#include "model/model.h"
#include "quant/calibration_file.h"
#include "text/load_tokenizer.h"

namespace thimble {

struct EvalInput;  // eval/record.h

// A command registers its flags and what to run; the exit status is 0, or 1 after an error was printed.
void AddInspect(CLI::App& app);
void AddConvert(CLI::App& app);
void AddAdapter(CLI::App& app);
void AddQuantize(CLI::App& app);
void AddFit(CLI::App& app);
void AddImatrix(CLI::App& app);
void AddRotate(CLI::App& app);
void AddDequantize(CLI::App& app);
void AddEval(CLI::App& app);
void AddCompare(CLI::App& app);
void AddReport(CLI::App& app);
void AddTune(CLI::App& app);
void AddRecover(CLI::App& app);
void AddRebase(CLI::App& app);  // of `thimble adapter`
void AddRun(CLI::App& app);
void AddChat(CLI::App& app);
void AddTokenize(CLI::App& app);
void AddDetokenize(CLI::App& app);
void AddTemplate(CLI::App& app);
void AddLogits(CLI::App& app);
void AddBench(CLI::App& app);
void AddDoctor(CLI::App& app);

// Wraps a command's body for CLI11: an error is printed as "thimble: ..." and becomes the exit status. One
// rank's ends all ranks; so does its cancellation, unless all ranks agree to cancel.
enum class OnCancel { kEndAll, kAllAgreed };
std::function<void()> Runs(std::function<Status()> body, OnCancel on_cancel = OnCancel::kEndAll);

// -t/--threads and --compute.
struct ComputeFlags {
  int threads = 0;
  std::string compute = "int8";
  void Add(CLI::App& command, const std::string& default_compute = "int8");
  void AddCompute(CLI::App& command, const std::string& default_compute = "int8");  // without --threads
  // Valid for the life of the process. Error where mpirun started several: the command runs as one.
  Result<Context> MakeContext() const;
  // With the processes that mpirun started as Context::ranks. Standard output is the first one's alone.
  Result<Context> JoinContext() const;

 private:
  Result<Context> MakeContextOn(Ranks& ranks) const;
};

// --calibration, --calibration-tokens, --calibration-memory and --cache.
struct CalibrationFlags {
  std::vector<std::string> texts;
  int64_t tokens = 0;
  std::string memory, cache;
  void Add(CLI::App& command);
  bool given() const { return !texts.empty() || tokens > 0 || !memory.empty(); }
  // `inputs`, if given, gets a hash of each text; of one that is built in, of its documents.
  Result<CalibrationOptions> Resolve(std::vector<EvalInput>* inputs = nullptr) const;
};

// --cache-type-k and -v. The names -ctk and -ctv, which CLI11 does not allow, are replaced in main().
struct KvFlags {
  std::string k, v;
  void Add(CLI::App& command);
  bool given() const { return !k.empty() || !v.empty(); }
  Result<KvTypes> Resolve(const ModelConfig& config) const;
};

// A model with its text side.
struct LoadedModel {
  std::unique_ptr<Model> model;
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
};
Result<LoadedModel> LoadModel(const std::string& path);
// Of the model at `path`, from the cache where it has been made before.
Result<CachedCalibration> CalibrateModel(const Context& ctx, const LoadedModel& loaded,
                                         const CalibrationOptions& options);
// A conversation as the model's chat template writes it, ending where the assistant begins.
Result<std::vector<TokenId>> EncodeChat(const LoadedModel& loaded, const Json& messages);

// --adapter PATH[=SCALE], several times.
struct AdapterFlags {
  std::vector<std::string> paths;
  void Add(CLI::App& command);
};
// Adapters stay where they are while AppliedAdapter points at them.
struct LoadedAdapters {
  std::vector<std::unique_ptr<Adapter>> adapters;
  std::vector<AppliedAdapter> applied;
};
// PATH of PATH=SCALE.
std::string AdapterPath(const std::string& flag);
// `what` goes into the error.
Result<float> ParseScale(const std::string& text, const std::string& what);
// On standard error, where the adapter's notes name another base than the model.
void WarnOfAnotherBase(const Adapter& adapter, const Model& model);
Result<LoadedAdapters> LoadAdapters(const std::vector<std::string>& paths, const Model& model);

// Sampling flags with llama.cpp's names.
struct SamplingFlags {
  SamplingParams params;
  int64_t seed = -1;
  void Add(CLI::App& command);
  SamplingParams Resolve() const;  // seed -1: from the clock
};

// Speculative decoding, with llama.cpp's names.
struct DraftFlags {
  std::string model, type = "none";
  DraftOptions options;
  void Add(CLI::App& command);
};
// The drafter that the flags ask for, for `target` in a context of `n_ctx` tokens; its model lives as long.
struct LoadedDrafter {
  LoadedModel model;
  std::unique_ptr<Drafter> drafter;
};
Result<LoadedDrafter> LoadDrafter(const DraftFlags& flags, const Context& ctx, const LoadedModel& target,
                                  int64_t n_ctx);
// ", guessed N tokens, M of them right (P %)"; empty if none.
std::string DraftText(const Generation& out);

// A bar with rate and time left on a terminal, a plain line now and then in a log. Cancels after Ctrl-C.
ProgressFn TerminalProgress();
// What SIGTERM, with which mpirun also ends the ranks that are left when one has died, makes the process say.
void SetLastWords(const std::string& words);
// After the first Ctrl-C; the second one ends the process, leaving no temporary files.
bool Interrupted();
void ClearInterrupt();
void InstallInterruptHandler();

// "1.23 GB" (powers of 10).
std::string HumanBytes(int64_t bytes);
// "80MB", "1.2 GiB", "91900000"; in any case.
Result<uint64_t> ParseBytes(const std::string& flag, const std::string& text);
// The value of a "key : value" line, as in /proc/cpuinfo; empty if there is none.
std::string ProcValue(const char* path, std::string_view key);
Result<std::string> ReadTextOrStdin(const std::string& path);  // "-" is standard input
std::string CommandLine(const CLI::App& command);

}  // namespace thimble
