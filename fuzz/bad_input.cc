// Damages files and loads them: every cut at a section's boundary, and random changes of one byte.
//
//   bad_input TARGET CHANGES FILE...      CHANGES changes of one byte per file, half of them before the
//   weights
//
// A load must come to a normal end, or to an error that names the file and an offset or a field. A crash, a
// load of more than 10 seconds and, under AddressSanitizer, an allocation beyond the file's size class end
// the run and say what was done to which file. tools/check_bad_input.py runs this over the small models of
// tests/golden.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "fuzz/targets.h"

#if defined(__SANITIZE_ADDRESS__)
// <sanitizer/allocator_interface.h>, which GCC does not install.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, size_t),
                                                         void (*on_free)(const volatile void*));
extern "C" size_t __sanitizer_get_allocated_size(const volatile void*);
#endif

namespace thimble {
namespace {

constexpr unsigned kSecondsPerLoad = 10;
constexpr size_t kAllocationFloor = size_t{8} << 20, kAllocationPerByte = 32;
constexpr size_t kLongestMessage = 5000;

// What is being loaded, for the last words of a dying process.
char g_doing[512];

void OnDeath(int signal) {
  const char* what = signal == SIGALRM ? "\nbad_input: hangs at: " : "\nbad_input: dies at: ";
  [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, what, std::strlen(what));
  n = ::write(STDERR_FILENO, g_doing, std::strlen(g_doing));
  n = ::write(STDERR_FILENO, "\n", 1);
  _exit(1);
}

// Live bytes on the heap, counted under AddressSanitizer only.
std::atomic<int64_t> g_live, g_peak;

#if defined(__SANITIZE_ADDRESS__)
void OnMalloc(const volatile void*, size_t size) {
  const int64_t live = g_live += static_cast<int64_t>(size);
  if (live > g_peak) g_peak = live;
}
void OnFree(const volatile void* pointer) {
  if (pointer != nullptr) g_live -= static_cast<int64_t>(__sanitizer_get_allocated_size(pointer));
}
#endif

struct Places {
  size_t before_weights;  // bytes that describe the weights
  std::set<size_t> cuts;  // where the file is cut
};

Places FindPlaces(const std::string& target, const std::string& path, const std::string& bytes) {
  Places places{.before_weights = bytes.size(), .cuts = {}};
  const auto add = [&](const TensorTable& tensors, const uint8_t* file) {
    for (const TensorInfo& tensor : tensors) {
      const size_t begin = static_cast<size_t>(tensor.bytes.data() - file);
      places.before_weights = std::min(places.before_weights, begin);
      places.cuts.insert({begin, begin + tensor.bytes.size() / 2});
    }
  };
  if (target == "gguf") {
    if (const auto file = ReadGguf(path)) add(file->tensors, file->file->bytes().data());
  } else if (target == "safetensors") {
    if (const auto file = ReadSafetensors(path)) add(file->tensors, file->files[0]->bytes().data());
  }
  // Each byte of what is no weight: all boundaries are among them.
  for (size_t i = 0; i < places.before_weights; ++i) places.cuts.insert(i);
  return places;
}

class BadInput {
 public:
  explicit BadInput(const FuzzTarget& target) : target_(target), scratch_(target) {}

  bool Run(const std::string& path, int changes) {
    const auto bytes = ReadFile(path);
    if (!bytes) return Complain("cannot be read", bytes.error().message);
    if (const Status whole = Load(path, *bytes); !whole)
      return Complain("does not load", whole.error().message);
    const Places places = FindPlaces(target_.name, path, *bytes);
    for (const size_t cut : places.cuts) {
      Check(Load(fmt::format("{} cut to {} bytes", path, cut), std::string_view(*bytes).substr(0, cut)));
    }
    Random random(1);
    for (int i = 0; i < changes; ++i) {
      std::string damaged = *bytes;
      const size_t at = random.Below(i % 2 == 0 ? places.before_weights : bytes->size());
      damaged[at] = static_cast<char>(static_cast<uint8_t>(damaged[at]) ^ (1 + random.Below(255)));
      Check(Load(fmt::format("{} with byte {} set to {}", path, at, static_cast<uint8_t>(damaged[at])),
                 damaged));
    }
    return true;
  }

  void Print() const {
    fmt::print(
        "{}: {} loads of damaged files, {} ended in an error ({} kinds), at most {:.1f} MB allocated\n",
        target_.name, n_loads_, n_errors_, kinds_.size(), static_cast<double>(largest_) / 1e6);
    for (const auto& [kind, n] : kinds_) fmt::print("  {:6} {}\n", n, kind);
  }
  bool passed() const { return n_complaints_ == 0; }

 private:
  Status Load(const std::string& doing, std::string_view bytes) {
    g_doing[doing.copy(g_doing, sizeof(g_doing) - 1)] = '\0';
    ::alarm(kSecondsPerLoad);
    const int64_t before = g_live;
    g_peak = before;
    Status status = scratch_.Load(bytes);
    ::alarm(0);
    ++n_loads_;
    largest_ = std::max<int64_t>(largest_, g_peak - before);
    if (const size_t limit = kAllocationFloor + kAllocationPerByte * bytes.size();
        static_cast<size_t>(g_peak - before) > limit) {
      Complain("allocates", fmt::format("{} bytes, more than {}", g_peak - before, limit));
    }
    return status;
  }

  void Check(const Status& status) {
    if (status) return;
    ++n_errors_;
    const std::string& message = status.error().message;
    // A field of one file that does not fit another one's is told of the folder.
    const std::string where = scratch_.path().ends_with(".gguf")
                                  ? scratch_.path()
                                  : scratch_.path().substr(0, scratch_.path().rfind('/'));
    const size_t name = message.find(where);
    const std::string rest = name == std::string::npos ? message : message.substr(name + where.size());
    if (message.size() > kLongestMessage)
      return static_cast<void>(Complain("an error of many pages", message.substr(0, 200)));
    // "byte 12", "line 3", 'a field' or a.key
    static const std::regex place("byte|line|\"|'|[a-z_]+[._][a-z_]+|empty|field|not a GGUF");
    if (name == std::string::npos) Complain("error does not name the file", message);
    if (!std::regex_search(rest, place)) Complain("error names no offset or field", message);
    ++kinds_[std::regex_replace(rest, std::regex("'[^']*'|\"[^\"]*\"|[0-9]+|\\[.*\\]"), "_").substr(0, 100)];
  }

  bool Complain(const char* what, const std::string& details) {
    if (++n_complaints_ <= 20)
      fmt::print(stderr, "bad_input: {}: {}: {}: {}\n", target_.name, g_doing, what, details);
    return false;
  }

  const FuzzTarget& target_;
  const FuzzScratch scratch_;
  int64_t n_loads_ = 0, n_errors_ = 0, n_complaints_ = 0, largest_ = 0;
  std::map<std::string, int64_t> kinds_;
};

int Main(int argc, char** argv) {
  const FuzzTarget* target = argc > 3 ? FindFuzzTarget(argv[1]) : nullptr;
  if (target == nullptr) {
    fmt::print(stderr, "usage: bad_input TARGET CHANGES FILE...; the targets:");
    for (const FuzzTarget& known : FuzzTargets()) fmt::print(stderr, " {}", known.name);
    fmt::print(stderr, "\n");
    return 2;
  }
  std::signal(SIGALRM, OnDeath);
  std::signal(SIGABRT, OnDeath);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_install_malloc_and_free_hooks(OnMalloc, OnFree);
#else
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, OnDeath);
#endif
  BadInput run(*target);
  for (int i = 3; i < argc; ++i) run.Run(argv[i], std::atoi(argv[2]));
  run.Print();
  return run.passed() ? 0 : 1;
}

}  // namespace
}  // namespace thimble

// After its report, a sanitizer ends in OnDeath too.
extern "C" const char* __asan_default_options() {
  return "abort_on_error=1";
}
extern "C" const char* __ubsan_default_options() {
  return "abort_on_error=1:print_stacktrace=1";
}

int main(int argc, char** argv) {
  return thimble::Main(argc, argv);
}
