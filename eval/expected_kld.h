// How far a model's predictions are expected to move by a choice of types: sums of its matrices' costs, put
// right by what was measured.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "quant/solver.h"

namespace thimble {

// What part of its cost a kind of matrix does add to the divergence: where all others are fine, and where all
// others are coarse. Errors of different matrices do not just add up: those of the values and of the
// attention's output, for one, are partly the same.
struct KindFactors {
  double among_fine = 1, among_coarse = 1;
};

// The matrix's name without its layer: "attn_q.weight".
std::string KindOf(const std::string& tensor);

// A choice's sum is that of its costs, each times its kind's factor. That factor goes from among_fine to
// among_coarse as the choice does from the finest to the coarse one that the factors were measured at; a sum
// has the mean over the way, which is exact as long as errors meet in pairs.
class ExpectedKld {
 public:
  ExpectedKld() = default;
  explicit ExpectedKld(std::vector<TensorCosts> costs) : costs_(std::move(costs)) {}

  const std::vector<TensorCosts>& costs() const { return costs_; }

  // The largest type of every matrix; and the smallest that may cost `kld` together (or the smallest of all).
  TypeChoice Finest() const;
  Result<TypeChoice> Coarse(double kld) const;

  void SetKinds(const TypeChoice& coarse, std::map<std::string, KindFactors> kinds);
  // Sums of choices and what they came to: noise is kept from making these fall as those grow.
  void SetMeasured(std::vector<std::pair<double, double>> measured);

  // TypeChoice::kld is the choice's sum here.
  Result<TypeChoice> SolveForBytes(uint64_t max_bytes) const;
  Result<TypeChoice> SolveForKld(double max_kld) const;  // with Of(sum) near this
  std::vector<TypeChoice> Front(int points) const;

  std::vector<double> Shares(const std::vector<size_t>& choice) const;  // of the sum, by tensor
  double Sum(const std::vector<size_t>& choice) const;
  // Nats per token of a choice with this sum: between measured totals on a line of logarithms, beyond them in
  // proportion.
  double Of(double sum) const;

  Json ToJson() const;
  static ExpectedKld FromJson(const Json& json);  // throws if it is not ToJson's

 private:
  double Level(
      const std::vector<size_t>& choice) const;  // 0: finest, 1: as coarse as the factors' or coarser
  double Factor(const std::string& tensor, double level) const;
  std::vector<TensorCosts> CostsAt(double level) const;
  double SumFor(double kld) const;  // the inverse of Of

  std::vector<TensorCosts> costs_;
  double coarse_cost_ = 0;
  std::map<std::string, KindFactors> kinds_;
  std::vector<std::pair<double, double>> measured_;
};

}  // namespace thimble
