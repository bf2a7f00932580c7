// Ranks over MPI: a module of its own, which base/ranks.cc loads where mpirun started the program.
#include "base/ranks.h"

#include <mpi.h>

#include <algorithm>
#include <limits>

namespace thimble {
namespace {

constexpr size_t kMostAtOnce = size_t{1} << 30;  // MPI counts in int

template <typename T>
void SumInPieces(std::span<T> values, MPI_Datatype type) {
  while (!values.empty()) {
    const size_t n = std::min(values.size(), kMostAtOnce);
    MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(n), type, MPI_SUM, MPI_COMM_WORLD);
    values = values.subspan(n);
  }
}

// Errors end the job, with MPI's own message: MPI_ERRORS_ARE_FATAL is its default.
class MpiRanks : public Ranks {
 public:
  MpiRanks() {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~MpiRanks() override { MPI_Finalize(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void Sum(std::span<float> values) override { SumInPieces(values, MPI_FLOAT); }
  void Sum(std::span<double> values) override { SumInPieces(values, MPI_DOUBLE); }
  std::vector<std::string> Gather(std::string_view bytes) override {
    const auto n = static_cast<size_t>(size_);
    std::vector<int> sizes(n), begins(n);
    const int own = bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max())
                        ? static_cast<int>(bytes.size())
                        : -1;
    MPI_Allgather(&own, 1, MPI_INT, sizes.data(), 1, MPI_INT, MPI_COMM_WORLD);
    int64_t total = 0;
    for (size_t i = 0; i < n; ++i) {
      begins[i] = static_cast<int>(total);
      total += sizes[i];
      if (sizes[i] < 0 || total > std::numeric_limits<int>::max()) Abort(1);
    }
    std::string all(static_cast<size_t>(total), '\0');
    MPI_Allgatherv(bytes.data(), own, MPI_BYTE, all.data(), sizes.data(), begins.data(), MPI_BYTE,
                   MPI_COMM_WORLD);
    std::vector<std::string> parts;
    for (size_t i = 0; i < n; ++i) {
      parts.push_back(all.substr(static_cast<size_t>(begins[i]), static_cast<size_t>(sizes[i])));
    }
    return parts;
  }
  [[noreturn]] void Abort(int status) override {
    MPI_Abort(MPI_COMM_WORLD, status);
    std::abort();  // not reached
  }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace
}  // namespace thimble

extern "C" thimble::Ranks* JoinMpiRanks() {
  return new thimble::MpiRanks();
}
