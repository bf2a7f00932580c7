#include "eval/expected_kld.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace thimble {
namespace {

constexpr int kRounds = 4;  // of choosing by the level of the last choice

double CostOf(const std::vector<TensorCosts>& costs, const std::vector<size_t>& choice) {
  double sum = 0;
  for (size_t i = 0; i < costs.size(); ++i) sum += costs[i].choices[choice[i]].kld;
  return sum;
}

}  // namespace

std::string KindOf(const std::string& tensor) {
  const size_t layer = tensor.find("blk.");
  return layer == 0 ? tensor.substr(tensor.find('.', 4) + 1) : tensor;
}

TypeChoice ExpectedKld::Finest() const {
  TypeChoice finest;
  for (const TensorCosts& t : costs_) {
    finest.choice.push_back(t.choices.size() - 1);
    finest.bytes += t.choices.back().bytes;
  }
  finest.kld = Sum(finest.choice);
  return finest;
}

Result<TypeChoice> ExpectedKld::Coarse(double kld) const {
  return thimble::SolveForKld(costs_, kld);
}

void ExpectedKld::SetKinds(const TypeChoice& coarse, std::map<std::string, KindFactors> kinds) {
  coarse_cost_ = CostOf(costs_, coarse.choice);
  kinds_ = std::move(kinds);
}

void ExpectedKld::SetMeasured(std::vector<std::pair<double, double>> measured) {
  measured_ = std::move(measured);
  std::ranges::sort(measured_);
  const auto same = std::ranges::unique(measured_, {}, [](const auto& m) { return m.first; });
  measured_.erase(same.begin(), same.end());
  for (size_t i = 1; i < measured_.size(); ++i) {
    measured_[i].second = std::max(measured_[i].second, 1.0001 * measured_[i - 1].second);
  }
}

double ExpectedKld::Level(const std::vector<size_t>& choice) const {
  return coarse_cost_ > 0 ? std::min(1.0, CostOf(costs_, choice) / coarse_cost_) : 0;
}

double ExpectedKld::Factor(const std::string& tensor, double level) const {
  const auto kind = kinds_.find(KindOf(tensor));
  if (kind == kinds_.end()) return 1;
  return std::lerp(kind->second.among_fine, kind->second.among_coarse, level);
}

std::vector<TensorCosts> ExpectedKld::CostsAt(double level) const {
  std::vector<TensorCosts> costs = costs_;
  for (TensorCosts& t : costs) {
    const double factor = Factor(t.name, level);
    for (TypeCost& c : t.choices) c.kld *= factor;
  }
  return costs;
}

std::vector<double> ExpectedKld::Shares(const std::vector<size_t>& choice) const {
  const double level = 0.5 * Level(choice);
  std::vector<double> shares;
  for (size_t i = 0; i < costs_.size(); ++i) {
    shares.push_back(costs_[i].choices[choice[i]].kld * Factor(costs_[i].name, level));
  }
  return shares;
}

double ExpectedKld::Sum(const std::vector<size_t>& choice) const {
  const std::vector<double> shares = Shares(choice);
  return std::accumulate(shares.begin(), shares.end(), 0.0);
}

double ExpectedKld::Of(double sum) const {
  if (measured_.empty() || !(sum > 0)) return sum;
  const auto above = std::ranges::lower_bound(measured_, sum, {}, [](const auto& m) { return m.first; });
  if (above == measured_.begin()) return sum * above->second / above->first;
  const auto& low = *std::prev(above);
  if (above == measured_.end()) return sum * low.second / low.first;
  const double share = std::log(sum / low.first) / std::log(above->first / low.first);
  return low.second * std::pow(above->second / low.second, share);
}

double ExpectedKld::SumFor(double kld) const {
  double low = 0, high = std::max(kld, 1e-9);
  while (Of(high) < kld) high *= 2;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (Of(middle) <= kld ? low : high) = middle;
  }
  return low;
}

// Factors depend on the choice, and it on them.
Result<TypeChoice> ExpectedKld::SolveForBytes(uint64_t max_bytes) const {
  TypeChoice best;
  double level = 0.5;
  for (int round = 0; round < kRounds; ++round) {
    ASSIGN_OR_RETURN(TypeChoice choice, thimble::SolveForBytes(CostsAt(level), max_bytes));
    choice.kld = Sum(choice.choice);
    const double its_level = Level(choice.choice);
    const bool settled = its_level == level;
    level = its_level;
    if (best.choice.empty() || choice.kld < best.kld) best = std::move(choice);
    if (settled) break;
  }
  return best;
}

// Costs at a level add up to more or less than the sum over the way there.
Result<TypeChoice> ExpectedKld::SolveForKld(double max_kld) const {
  const double most = SumFor(max_kld);
  TypeChoice best;
  double level = 0, scale = 1;
  for (int round = 0; round < kRounds; ++round) {
    ASSIGN_OR_RETURN(TypeChoice choice, thimble::SolveForKld(CostsAt(level), scale * most));
    const double sum = Sum(choice.choice);
    level = Level(choice.choice);
    if (sum > 0) scale = choice.kld / sum;
    choice.kld = sum;
    const bool same = choice.choice == best.choice;
    best = std::move(choice);
    if (same) break;
  }
  return best;
}

std::vector<TypeChoice> ExpectedKld::Front(int points) const {
  std::vector<TypeChoice> front;
  for (TypeChoice& choice : ParetoFront(CostsAt(0.5), points)) {
    choice.kld = Sum(choice.choice);
    if (front.empty() || choice.kld < front.back().kld) front.push_back(std::move(choice));
  }
  return front;
}

Json ExpectedKld::ToJson() const {
  Json json = {{"coarse_cost", coarse_cost_},
               {"kinds", Json::object()},
               {"measured", measured_},
               {"tensors", Json::array()}};
  for (const auto& [kind, factors] : kinds_) {
    json["kinds"][kind] = {factors.among_fine, factors.among_coarse};
  }
  for (const TensorCosts& t : costs_) {
    Json choices = Json::array();
    for (const TypeCost& c : t.choices) {
      choices.push_back(
          {{"type", Name(c.type)}, {"bytes", c.bytes}, {"kld", c.kld}, {"relative_error", c.relative_error}});
    }
    json["tensors"].push_back({{"name", t.name}, {"choices", choices}});
  }
  return json;
}

ExpectedKld ExpectedKld::FromJson(const Json& json) {
  ExpectedKld expected;
  expected.coarse_cost_ = json.at("coarse_cost").get<double>();
  for (const auto& [kind, factors] : json.at("kinds").items()) {
    expected.kinds_[kind] = {factors.at(0).get<double>(), factors.at(1).get<double>()};
  }
  expected.measured_ = json.at("measured").get<std::vector<std::pair<double, double>>>();
  for (const Json& t : json.at("tensors")) {
    TensorCosts& tensor = expected.costs_.emplace_back(TensorCosts{t.at("name").get<std::string>(), {}});
    for (const Json& c : t.at("choices")) {
      tensor.choices.push_back({ParseWeightType(c.at("type").get<std::string>()).value(),
                                c.at("bytes").get<uint64_t>(), c.at("kld").get<double>(),
                                c.at("relative_error").get<double>()});
    }
    if (tensor.choices.empty()) throw std::invalid_argument(tensor.name + " has no choices");
  }
  return expected;
}

}  // namespace thimble
