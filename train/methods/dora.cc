// DoRA (Liu et al. 2024): W' = magnitude * (W + scale B A) / |W + scale B A|, row by row, with the gradient
// of the length left out (section 4.3), as in PEFT. The adapter has magnitude / length in out_scale, and B
// times it.
#include <cmath>

#include "train/methods/lora.h"

namespace thimble {
namespace {

class Dora : public Lora {
 public:
  using Lora::Lora;

  Status Initialize(const Context& ctx, uint64_t seed) override {
    if (options_.start != LoraStart::kZero)
      return MakeError(ErrorCode::kInvalidArgument, "dora starts from zero only");
    RETURN_IF_ERROR(Lora::Initialize(ctx, seed));
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (const Slot slot : targets()) AddRows(layer, slot);
    }
    return {};
  }

  // |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b^T for each row w of W and b of B.
  void UpdateAdapter(const Context& ctx) override {
    Context plain = ctx;
    plain.compute = Compute::kF32;
    plain.tape = nullptr;
    for (Rows& rows : rows_) {
      AdapterModule& m = module(rows.layer, rows.slot);
      Weight w = weight(rows.layer, rows.slot);
      w.bias = nullptr;
      const Tensor aw = Linear(plain, w, m.a);  // [r, n_out]
      const int64_t r = m.a.rows(), n_in = m.a.cols();
      Tensor gram = Tensor::Empty(r, r);
      ctx.kernels.gemm_nt(r, r, n_in, m.a.data(), n_in, m.a.data(), n_in, gram.data(), r, false);
      for (int64_t i = 0; i < rows.b.rows(); ++i) {
        const float* b = rows.b.row(i);
        double cross = 0, own = 0;
        for (int64_t j = 0; j < r; ++j) {
          cross += static_cast<double>(b[j]) * aw.row(j)[i];
          own += static_cast<double>(b[j]) * ctx.kernels.dot(b, gram.row(j), r);
        }
        const double s = m.scale;
        rows.lengths[static_cast<size_t>(i)] =
            static_cast<float>(std::sqrt(rows.squares[static_cast<size_t>(i)] + 2 * s * cross + s * s * own));
        const float factor = rows.magnitude.data()[i] / rows.lengths[static_cast<size_t>(i)];
        m.out_scale.data()[i] = factor;
        for (int64_t j = 0; j < r; ++j) m.b.row(i)[j] = factor * b[j];
      }
    }
  }

  void PassGradients(const Context& ctx) override {
    for (Rows& rows : rows_) {
      const AdapterModule& m = module(rows.layer, rows.slot);
      const int64_t r = m.b.cols();
      for (int64_t i = 0; i < m.b.rows(); ++i) {
        const float* db = m.b.grad() + i * r;
        const float factor = m.out_scale.data()[i];
        const float d_factor = m.out_scale.grad()[i] + ctx.kernels.dot(db, rows.b.row(i), r);
        rows.magnitude.grad()[i] += d_factor / rows.lengths[static_cast<size_t>(i)];
        ctx.kernels.axpy(factor, db, rows.b.grad() + i * r, r);
      }
      m.b.ZeroGrad();
      m.out_scale.ZeroGrad();
    }
  }

 protected:
  Json Config() const override {
    Json config = Lora::Config();
    config["use_dora"] = true;
    return config;
  }

 private:
  struct Rows {
    int64_t layer;
    Slot slot;
    Tensor b, magnitude;          // trained
    std::vector<double> squares;  // of W's rows
    std::vector<float> lengths;   // of the rows of W + scale B A
  };

  // After Lora's, whose B, being trained, moves out of the adapter.
  void AddRows(int64_t layer, Slot slot) {
    const Weight& w = weight(layer, slot);
    AdapterModule& m = module(layer, slot);
    Rows rows{
        layer, slot, m.b, Tensor::Empty(1, w.n_out), {}, std::vector<float>(static_cast<size_t>(w.n_out))};
    std::vector<float> row(static_cast<size_t>(w.n_in));
    const auto decode = Kernels().decode_row[static_cast<int>(w.type)];
    for (int64_t i = 0; i < w.n_out; ++i) {
      decode(w.row(i), row.data(), w.n_in);
      double square = 0;
      for (const float x : row) square += static_cast<double>(x) * x;
      rows.squares.push_back(square);
      rows.magnitude.data()[i] = static_cast<float>(std::sqrt(square));
    }
    m.b = Tensor::Zeros(w.n_out, m.a.rows());
    m.out_scale = Tensor::Empty(1, w.n_out);
    m.b.set_requires_grad(true);
    m.out_scale.set_requires_grad(true);
    AddParameter({.name = ModuleName(layer, slot) + ".lora_magnitude_vector",
                  .shape = {w.n_out},
                  .value = rows.magnitude,
                  .order = PeftRowOrder(model_, slot),
                  .n_rows = w.n_out});
    rows_.push_back(std::move(rows));
  }

  std::vector<Rows> rows_;
};

}  // namespace

std::unique_ptr<Method> MakeDora(const Model& model, const PeftOptions& options) {
  return std::make_unique<Dora>(model, options);
}

}  // namespace thimble
