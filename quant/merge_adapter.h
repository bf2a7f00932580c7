// An adapter taken into the weights that it stands beside.
#pragma once

#include <string>
#include <vector>

#include "model/model.h"
#include "quant/export_plan.h"

namespace thimble {

// The plan's matrices with what the adapter, times `scale`, adds to them. `model` is the plan's source,
// bound, and like the adapter must outlive the plan. Error kUnsupported: what the adapter does is no change
// of a matrix (biases, bottlenecks, virtual tokens, norms).
Status MergeAdapter(const Adapter& adapter, float scale, const Model& model, ExportPlan& plan);

// Of a tensor that a merge changed, how the change D = W' - W came through its rounding to Q: D lies between
// neighbouring numbers of a coarse type, where rounding can erase it or drown it.
struct MergedTensor {
  std::string name;
  WeightType type = WeightType::kF32;
  double change = 0;    // |D| / |W|
  double survived = 0;  // <Q - W, D> / <D, D>: 1 if it came through, 0 if it was erased
  double noise = 0;     // |Q - W'| / |D|: what rounding added, by what the adapter adds
};
// The tensors that MergeAdapter changed, against what was written.
Result<std::vector<MergedTensor>> MeasureMerge(const ExportPlan& plan, const std::string& written);

}  // namespace thimble
