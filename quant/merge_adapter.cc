#include "quant/merge_adapter.h"

#include <cmath>

#include "quant/tensor_names.h"

namespace thimble {
namespace {

Status CheckMergeable(const Adapter& adapter, const Model& model) {
  const auto refuse = [&](const char* what) {
    return MakeError(ErrorCode::kUnsupported, "{}: {} cannot be merged into weights", adapter.name, what);
  };
  if (adapter.n_virtual() > 0) return refuse("what stands before a text");
  if (!adapter.norms.empty() || adapter.output_norm) return refuse("norms");
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      const AdapterModule& m = adapter.layers[layer][s];
      if (m.bias) return refuse("a bias");
      if (m.down) return refuse("a bottleneck");
      if (m.scales_bias && m.out_scale && model.layers()[layer].bias[s]) return refuse("a factor of a bias");
    }
  }
  return {};
}

// w' = w + scale (out_scale w in_scale + delta_scale B (rank_scale s A) - w), of row i.
void ChangeRow(const AdapterModule& m, float scale, int64_t i, float* w, int64_t n) {
  const float out = m.out_scale ? m.out_scale.data()[i] : 1.0f;
  for (int64_t j = 0; j < n; ++j) {
    w[j] *= 1 + scale * (out * (m.in_scale ? m.in_scale.data()[j] : 1.0f) - 1);
  }
  if (!m.a) return;
  const float delta = scale * m.scale * (m.delta_scale ? m.delta_scale.data()[i] : 1.0f);
  for (int64_t r = 0; r < m.a.rows(); ++r) {
    const float factor = delta * m.b.row(i)[r] * (m.rank_scale ? m.rank_scale.data()[r] : 1.0f);
    Kernels().axpy(factor, m.a.row(r), w, n);
  }
}

}  // namespace

Status MergeAdapter(const Adapter& adapter, float scale, const Model& model, ExportPlan& plan) {
  RETURN_IF_ERROR(CheckMergeable(adapter, model));
  const auto places = PlacesByName(model.config(), Naming::kGguf);
  for (ExportTensor& tensor : plan.tensors) {
    const auto place = places.find(tensor.name);
    if (place == places.end() || static_cast<int>(place->second.row->slot) >= kNumLinearSlots) continue;
    const AdapterModule& m =
        adapter
            .layers[static_cast<size_t>(place->second.layer)][static_cast<size_t>(place->second.row->slot)];
    if (m.empty()) continue;
    tensor.change = [&m, scale, n = tensor.source.row_size()](int64_t row, float* w) {
      ChangeRow(m, scale, row, w, n);
    };
  }
  return {};
}

Result<std::vector<MergedTensor>> MeasureMerge(const ExportPlan& plan, const std::string& written) {
  ASSIGN_OR_RETURN(const GgufFile file, ReadGguf(written));
  std::vector<MergedTensor> merged;
  for (const ExportTensor& tensor : plan.tensors) {
    if (!tensor.change) continue;
    ExportTensor before = tensor;
    before.change = nullptr;
    const TensorInfo& after = *file.tensors.Find(tensor.name);
    const int64_t n = tensor.source.row_size();
    const size_t row_bytes = RowBytes(after.type, n);
    std::vector<float> w(static_cast<size_t>(n)), changed(w), q(w);
    double w_w = 0, d_d = 0, q_d = 0, noise = 0;
    for (int64_t i = 0; i < tensor.source.n_rows(); ++i) {
      ReadRow(before, SourceRow(tensor, i), w.data());
      ReadRow(tensor, SourceRow(tensor, i), changed.data());
      Kernels().decode_row[static_cast<size_t>(after.type)](
          after.bytes.data() + static_cast<size_t>(i) * row_bytes, q.data(), n);
      for (size_t j = 0; j < w.size(); ++j) {
        const double d = changed[j] - w[j], rounded = q[j] - w[j];
        w_w += static_cast<double>(w[j]) * w[j];
        d_d += d * d;
        q_d += rounded * d;
        noise += (rounded - d) * (rounded - d);
      }
    }
    MergedTensor& report = merged.emplace_back(MergedTensor{.name = tensor.name, .type = after.type});
    if (d_d == 0) continue;
    report.change = std::sqrt(d_d / std::max(w_w, 1e-30));
    report.survived = q_d / d_d;
    report.noise = std::sqrt(noise / d_d);
  }
  return merged;
}

}  // namespace thimble
