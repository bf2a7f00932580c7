#include "quant/calibrated_rounding.h"

namespace thimble {

const LayerStatistics* StatisticsByName::Find(const std::string& name) const {
  const auto place = places_.find(name);
  if (place == places_.end()) return nullptr;
  const Slot slot = place->second.row->slot;
  if (static_cast<int>(slot) < kNumLinearSlots) {
    return &calibration_.layers[static_cast<size_t>(place->second.layer)][static_cast<size_t>(slot)];
  }
  if (slot == Slot::kOutput) return &calibration_.output;
  if (slot != Slot::kEmbedding) return nullptr;
  return config_.tied_embeddings ? &calibration_.output : &calibration_.embedding;
}

RoundingFor RoundingBy(RoundingMethod method, const Calibration& calibration, const ModelConfig& config,
                       ThreadPool& pool) {
  return [method, &pool,
          by_name = StatisticsByName(calibration, config)](const ExportTensor& t) -> Result<TensorRounding> {
    TensorRounding rounding;
    const LayerStatistics* statistics = by_name.Find(t.name);
    if (statistics == nullptr || method == RoundingMethod::kRtn) return rounding;
    const Hessian& hessian = statistics->hessian;
    if (method == RoundingMethod::kImatrix) {
      for (int64_t i = 0; i < hessian.n; ++i) rounding.importance.push_back(hessian.diagonal(i));
    } else {
      ASSIGN_OR_RETURN(rounding.factor, Factorize(pool, Kernels(), hessian));
    }
    return rounding;
  };
}

}  // namespace thimble
