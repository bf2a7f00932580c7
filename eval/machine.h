// What this machine could do at best: the bounds that speeds are held against.
#pragma once

#include <string>

#include "base/result.h"
#include "ops/context.h"

namespace thimble {

// With all threads of the context's pool.
struct MachineSpeed {
  double read_ordinary = 0;  // bytes read per second from memory, in ordinary pages ...
  double read_huge = 0;      // ... and in huge pages; 0 where the system gives none
  double int8 = 0;           // int8 multiply-adds per second of the context's kernels; 0: not known

  double read() const { return read_huge > read_ordinary ? read_huge : read_ordinary; }
};

// Takes about a second and 256 MB, far more than caches hold.
Result<MachineSpeed> MeasureMachine(const Context& ctx);

// "memory is read at 24.0 GB/s in ordinary pages and 44.0 GB/s in huge pages; avx512 ..."
std::string DescribeMachine(const MachineSpeed& speed, const std::string& kernels);

}  // namespace thimble
