// The processes that share one job: those that mpirun started, or this one alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace thimble {

// All ranks call the same functions in the same order; each waits for the others there. As it stands, the one
// rank of a process that is alone.
class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  // Sums over all ranks, on each of them; of as many values on each.
  virtual void Sum(std::span<float> /*values*/) {}
  virtual void Sum(std::span<double> /*values*/) {}
  // What each rank gives, in their order, on each of them.
  virtual std::vector<std::string> Gather(std::string_view bytes) { return {std::string(bytes)}; }
  // Ends the processes of all ranks with this status.
  [[noreturn]] virtual void Abort(int status);

  bool first() const { return rank() == 0; }
  // Of items that are dealt in turn.
  bool Takes(int64_t item) const { return item % size() == rank(); }
};

// The one rank of a process that is alone.
Ranks& OneRank();

// How many processes the launcher of this one says that it started together; 1 without a launcher.
int LaunchedRanks();
// How many of them are on this machine; all, where the launcher does not say.
int LaunchedRanksHere();
// With those, once per process. MPI is loaded only here, so that the program needs none otherwise. Error
// kUnsupported if it was built without, or with another MPI than the launcher's.
Result<std::unique_ptr<Ranks>> JoinRanks();

}  // namespace thimble
