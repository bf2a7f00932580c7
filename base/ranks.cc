#include "base/ranks.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

namespace thimble {

void Ranks::Abort(int status) {
  std::exit(status);
}

Ranks& OneRank() {
  static Ranks one;
  return one;
}

int LaunchedRanks() {
  // Open MPI's name, and that of MPICH and Intel MPI.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const char* size = std::getenv(name)) return std::max(1, std::atoi(size));
  }
  return 1;
}

Result<std::unique_ptr<Ranks>> JoinRanks() {
  std::error_code ec;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ec);
  const std::string path = program.parent_path() / "thimble_mpi.so";
  void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  void* const join = module != nullptr ? dlsym(module, "JoinMpiRanks") : nullptr;
  if (join == nullptr) {
    return MakeError(ErrorCode::kUnsupported,
                     "{} processes were started together, but this build cannot use MPI ({}): build it where "
                     "Open MPI's headers are, or start one process",
                     LaunchedRanks(), dlerror());
  }
  return std::unique_ptr<Ranks>(reinterpret_cast<Ranks* (*)()>(join)());
}

}  // namespace thimble
