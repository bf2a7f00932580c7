#include "quant/method_choice.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "quant/channel_scaling.h"

namespace thimble {
namespace {

using enum RoundingMethod;

constexpr int kAlphas = 10;            // 0.1, 0.2, ... 1
constexpr int64_t kSampledRows = 256;  // of each matrix, to find the best of them

const MethodRow kMethods[] = {
    {"rtn", "every weight by itself", {kRtn}},
    {"imatrix", "errors weighted by what the calibration text uses", {kImatrix}},
    {"awq", "imatrix, after columns that meet large activations were scaled up", {kImatrix}, true},
    {"gptq", "errors fed back into later weights", {kGptq}},
    {"awq-gptq", "gptq after awq's scaling", {kGptq}, true},
    {"auto", "by tensor whichever of these is expected to cost least", {kRtn, kImatrix, kGptq}, true},
};

// A quantized matrix of a group, with what its costs are read from (the Hessian itself is let go).
struct Measured {
  size_t tensor;
  LayerStatistics statistics;
  HessianFactor factor;
};

struct GroupChoice {
  double cost = 0;
  std::vector<RoundingMethod> methods;  // by matrix
};

class Chooser {
 public:
  Chooser(const MethodRow& method, const CalibrationFile& calibration, ThreadPool& pool, ExportPlan& plan)
      : method_(method), calibration_(calibration), pool_(pool), plan_(plan) {}

  Status ChooseGroup(const ChannelGroup& group, Methods& methods) {
    ASSIGN_OR_RETURN(const std::vector<Measured> matrices, Measure(group.matrices));
    if (matrices.empty()) return {};
    GroupChoice best = Cheapest(matrices, {}, method_.rounding);
    if (!group.makers.empty()) {
      const std::vector<float> scales = FindScales(group, matrices);
      GroupChoice scaled = Cheapest(matrices, ColumnScales(group, scales), method_.rounding);
      if (scaled.cost < best.cost) {
        ApplyScales(group, scales, plan_);
        best = std::move(scaled);
      }
    }
    for (size_t i = 0; i < matrices.size(); ++i) {
      methods.own[plan_.tensors[matrices[i].tensor].name] = best.methods[i];
    }
    return {};
  }

 private:
  Result<std::vector<Measured>> Measure(const std::vector<size_t>& tensors) const {
    std::vector<Measured> measured;
    for (const size_t i : tensors) {
      const ExportTensor& t = plan_.tensors[i];
      if (!IsRounded(t) || !calibration_.Has(t.name)) continue;
      ASSIGN_OR_RETURN(LayerStatistics s, calibration_.Read(t.name));
      ASSIGN_OR_RETURN(HessianFactor factor, Factorize(pool_, Kernels(), s.hessian, OrderOf(t.type)));
      s.hessian = Hessian(0);
      measured.push_back({i, std::move(s), std::move(factor)});
    }
    return measured;
  }

  GroupChoice Cheapest(const std::vector<Measured>& matrices, const std::vector<float>& column_scales,
                       const std::vector<RoundingMethod>& methods, int64_t max_rows = INT64_MAX) const {
    GroupChoice choice;
    for (const Measured& m : matrices) {
      ExportTensor t = plan_.tensors[m.tensor];
      t.column_scales = column_scales;
      double least = INFINITY;
      choice.methods.push_back(methods[0]);
      for (const RoundingMethod method : methods) {
        const double cost = MeasureRounding(t, t.type, method, m.statistics, m.factor, pool_, max_rows).kld;
        if (!(cost < least)) continue;
        least = cost;
        choice.methods.back() = method;
      }
      choice.cost += least;
    }
    return choice;
  }

  // By what rounding with the matrices' importance costs: close to what other methods would choose, and fast.
  std::vector<float> FindScales(const ChannelGroup& group, const std::vector<Measured>& matrices) const {
    std::vector<float> best, last;
    double least = INFINITY;
    for (int i = 1; i <= kAlphas; ++i) {
      std::vector<float> scales =
          ChannelScales(group, matrices[0].statistics.mean_squares, static_cast<double>(i) / kAlphas);
      if (scales == last) continue;
      last = scales;
      const double cost = Cheapest(matrices, ColumnScales(group, scales), {kImatrix}, kSampledRows).cost;
      if (!(cost < least) && !best.empty()) continue;
      least = cost;
      best = std::move(scales);
    }
    return best;
  }

  const MethodRow& method_;
  const CalibrationFile& calibration_;
  ThreadPool& pool_;
  ExportPlan& plan_;
};

// Those that scales can be folded around, and every other quantized tensor by itself.
std::vector<ChannelGroup> Groups(const MethodRow& method, const ExportPlan& plan, const ModelConfig& config) {
  std::vector<ChannelGroup> groups;
  if (method.scales_channels) groups = ChannelGroups(plan, config);
  std::vector<bool> grouped(plan.tensors.size());
  for (const ChannelGroup& group : groups) {
    for (const size_t i : group.matrices) grouped[i] = true;
  }
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    if (!grouped[i] && IsRounded(plan.tensors[i])) groups.push_back({.matrices = {i}});
  }
  return groups;
}

}  // namespace

std::span<const MethodRow> AllMethods() {
  return kMethods;
}

const MethodRow* FindMethod(const std::string& name) {
  const auto row = std::ranges::find(kMethods, name, &MethodRow::name);
  return row != std::end(kMethods) ? &*row : nullptr;
}

Result<Methods> ChooseMethods(const MethodRow& method, const CalibrationFile& calibration,
                              const ModelConfig& config, ThreadPool& pool, const ProgressFn& progress,
                              ExportPlan& plan) {
  Methods methods{.common = method.rounding[0]};
  if (!method.scales_channels && method.rounding.size() == 1) return methods;
  const std::vector<ChannelGroup> groups = Groups(method, plan, config);
  Chooser chooser(method, calibration, pool, plan);
  for (size_t i = 0; i < groups.size(); ++i) {
    RETURN_IF_ERROR(chooser.ChooseGroup(groups[i], methods));
    const Progress done{"choose", static_cast<double>(i + 1), static_cast<double>(groups.size()), "groups",
                        plan.tensors[groups[i].matrices[0]].name};
    if (progress && !progress(done)) return MakeError(ErrorCode::kCancelled, "choose: cancelled");
  }
  return methods;
}

std::string DescribeMethods(const Methods& methods, const ExportPlan& plan) {
  std::map<RoundingMethod, std::pair<int, int>> counts;
  for (const ExportTensor& t : plan.tensors) {
    if (!IsRounded(t)) continue;
    auto& [all, scaled] = counts[methods.Of(t.name)];
    ++all;
    scaled += !t.column_scales.empty();
  }
  std::string text;
  for (const auto& [method, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count.first, Name(method));
    if (count.second > 0) text += fmt::format(" ({} with scaled channels)", count.second);
  }
  return text;
}

}  // namespace thimble
