#include "eval/machine.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>

#include "base/check.h"

namespace thimble {
namespace {

constexpr size_t kBytes = size_t{256} << 20, kHugePage = size_t{2} << 20;
constexpr int kPasses = 8;
constexpr double kPeakSeconds = 0.02;  // of each pass

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Whether the mapping that starts at `address` lies in huge pages, by /proc/self/smaps.
bool IsHuge(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    size_t end = 0;
    if (line.find('-') < line.find(' ')) {
      inside = std::stoull(line, &end, 16) <= reinterpret_cast<uintptr_t>(address) &&
               std::stoull(line.substr(end + 1), nullptr, 16) > reinterpret_cast<uintptr_t>(address);
    } else if (inside && line.starts_with("AnonHugePages:")) {
      return std::stoull(line.substr(line.find(':') + 1)) * 1024 >= kBytes;
    }
  }
  return false;
}

class Mapping {
 public:
  static constexpr size_t kSize = kBytes + kHugePage;  // room to align
  Mapping() : base_(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Mapping() {
    if (ok()) munmap(base_, kSize);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  bool ok() const { return base_ != MAP_FAILED; }
  uint8_t* data() const {
    const auto address = reinterpret_cast<uintptr_t>(base_);
    return reinterpret_cast<uint8_t*>((address + kHugePage - 1) / kHugePage * kHugePage);
  }

 private:
  void* base_;
};

uint64_t Sum(const uint8_t* bytes, size_t size) {
  std::array<uint64_t, 16> sums{}, words;
  for (size_t i = 0; i < size; i += sizeof(words)) {
    std::memcpy(&words, bytes + i, sizeof(words));
    for (size_t j = 0; j < sums.size(); ++j) sums[j] += words[j];
  }
  uint64_t sum = 0;
  for (uint64_t s : sums) sum += s;
  return sum;
}

// Bytes per second of the best pass; 0 where huge pages are asked for and not given.
Result<double> MeasureRead(ThreadPool& pool, bool huge) {
  const Mapping mapping;
  if (!mapping.ok()) {
    return MakeError(ErrorCode::kIo, "no {} MB of memory to measure its speed with", kBytes >> 20);
  }
  madvise(mapping.data(), kBytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  std::memset(mapping.data(), 1, kBytes);
  if (huge && !IsHuge(mapping.data())) return 0;
  std::atomic<uint64_t> sum{0};
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const double begin = Seconds();
    pool.ParallelFor(kBytes, kHugePage, [&](int64_t from, int64_t to, int) {
      sum += Sum(mapping.data() + from, static_cast<size_t>(to - from));
    });
    best = std::max(best, static_cast<double>(kBytes) / (Seconds() - begin));
  }
  CHECK(sum == kPasses * (kBytes / sizeof(uint64_t)) * 0x0101010101010101u);
  return best;
}

// Multiply-adds per second of the best pass. Each thread works in many short pieces, so that one that the
// system holds up does not count for the others.
double MeasureInt8(const Context& ctx) {
  if (ctx.kernels.int8_peak == nullptr) return 0;
  constexpr int64_t kRounds = 1 << 14;
  double begin = Seconds();
  ctx.kernels.int8_peak(kRounds);
  const auto pieces = std::max<int64_t>(1, static_cast<int64_t>(kPeakSeconds / (Seconds() - begin)));
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::atomic<int64_t> done{0};
    begin = Seconds();
    ctx.pool.ParallelFor(pieces * ctx.pool.n_threads(), 1, [&](int64_t from, int64_t to, int) {
      done += ctx.kernels.int8_peak(kRounds * (to - from));
    });
    best = std::max(best, static_cast<double>(done) / (Seconds() - begin));
  }
  return best;
}

}  // namespace

Result<MachineSpeed> MeasureMachine(const Context& ctx) {
  MachineSpeed speed;
  ASSIGN_OR_RETURN(speed.read_ordinary, MeasureRead(ctx.pool, false));
  ASSIGN_OR_RETURN(speed.read_huge, MeasureRead(ctx.pool, true));
  speed.int8 = MeasureInt8(ctx);
  return speed;
}

std::string DescribeMachine(const MachineSpeed& speed, const std::string& kernels) {
  std::string text =
      fmt::format("memory is read at {:.1f} GB/s in ordinary pages", speed.read_ordinary / 1e9);
  text += speed.read_huge > 0 ? fmt::format(" and {:.1f} GB/s in huge pages", speed.read_huge / 1e9)
                              : std::string(" (no huge pages here)");
  if (speed.int8 > 0) {
    text +=
        fmt::format("; {} multiplies int8 at {:.0f} G multiply-adds/s at best", kernels, speed.int8 / 1e9);
  }
  return text;
}

}  // namespace thimble
