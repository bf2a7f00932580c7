#include "base/ranks.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>

namespace thimble {

void Ranks::Abort(int status) {
  std::exit(status);
}

Ranks& OneRank() {
  static Ranks one;
  return one;
}

namespace {

// Of the first of these variables that is set, or else.
int FromEnvironment(std::initializer_list<const char*> names, int or_else) {
  for (const char* name : names) {
    if (const char* n = std::getenv(name)) return std::max(1, std::atoi(n));
  }
  return or_else;
}

}  // namespace

// Open MPI's name first, then that of MPICH and Intel MPI.
int LaunchedRanks() {
  return FromEnvironment({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, 1);
}

int LaunchedRanksHere() {
  return FromEnvironment({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"}, LaunchedRanks());
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
  std::unique_ptr<Ranks> ranks(reinterpret_cast<Ranks* (*)()>(join)());
  if (ranks->size() != LaunchedRanks()) {
    return MakeError(
        ErrorCode::kUnsupported,
        "{} processes were started together, but of another MPI than this build's, which sees {}: "
        "start them with that MPI's mpirun",
        LaunchedRanks(), ranks->size());
  }
  return ranks;
}

}  // namespace thimble
