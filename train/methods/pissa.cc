// PiSSA (Meng et al. 2024): W' = (W - s B0 A0) + s B A, where A and B start as A0 and B0, the largest part of
// W of their rank. The frozen weight stays as it is in its file, so the adapter carries -B0 A0 too: its
// modules have twice the rank, as those of PEFT's that are converted to LoRA.
#include <cmath>

#include "ops/elementwise.h"
#include "train/methods/lora.h"

namespace thimble {
namespace {

class Pissa : public Lora {
 public:
  using Lora::Lora;

  Status Initialize(const Context& ctx, uint64_t seed) override {
    RETURN_IF_ERROR(Lora::Initialize(ctx, seed));
    RETURN_IF_ERROR(StartFrom(ctx, [&](int64_t layer, Slot slot) { return Decoded(layer, slot); }));
    for (int64_t layer = 0; layer < model_.config().n_layers; ++layer) {
      for (const Slot slot : targets()) {
        AdapterModule& m = module(layer, slot);
        Pair pair{layer, slot, m.a, m.b, Copy(m.a), Copy(m.b)};
        ScaleInPlace(pair.b0, -1);
        m.a = JoinA(pair);
        m.b = JoinB(pair);
        m.a.set_requires_grad(true);
        m.b.set_requires_grad(true);
        pairs_.push_back(std::move(pair));
      }
    }
    return {};
  }

  void UpdateAdapter(const Context& /*ctx*/) override {
    for (const Pair& pair : pairs_) {
      const AdapterModule& m = module(pair.layer, pair.slot);
      std::copy_n(pair.a.data(), pair.a.size(), m.a.data());
      const int64_t r = pair.b.cols();
      for (int64_t i = 0; i < pair.b.rows(); ++i) std::copy_n(pair.b.row(i), r, m.b.row(i));
    }
  }

  void PassGradients(const Context& ctx) override {
    for (const Pair& pair : pairs_) {
      const AdapterModule& m = module(pair.layer, pair.slot);
      const int64_t r = pair.b.cols();
      ctx.kernels.axpy(1, m.a.grad(), pair.a.grad(), pair.a.size());
      for (int64_t i = 0; i < pair.b.rows(); ++i) {
        ctx.kernels.axpy(1, m.b.grad() + i * 2 * r, pair.b.grad() + i * r, r);
      }
      m.a.ZeroGrad();
      m.b.ZeroGrad();
    }
  }

  Status Load(const std::string& directory) override {
    const std::vector<Parameter> joined = Saved();
    RETURN_IF_ERROR(ReadFolder(directory, joined));
    for (size_t i = 0; i < pairs_.size(); ++i) {
      const Pair& pair = pairs_[i];
      const Tensor &a = joined[2 * i].value, &b = joined[2 * i + 1].value;
      const int64_t r = pair.b.cols();
      std::copy_n(a.data(), pair.a.size(), pair.a.data());
      std::copy_n(a.row(r), pair.a0.size(), pair.a0.data());
      for (int64_t row = 0; row < b.rows(); ++row) {
        std::copy_n(b.row(row), r, pair.b.row(row));
        std::copy_n(b.row(row) + r, r, pair.b0.row(row));
      }
      AdapterModule& m = module(pair.layer, pair.slot);
      std::copy_n(a.data(), a.size(), m.a.data());
      std::copy_n(b.data(), b.size(), m.b.data());
    }
    return {};
  }

 protected:
  std::vector<Parameter> Saved() const override {
    std::vector<Parameter> saved = parameters();
    for (size_t i = 0; i < pairs_.size(); ++i) {
      Parameter &a = saved[2 * i], &b = saved[2 * i + 1];
      a.value = JoinA(pairs_[i]);
      b.value = JoinB(pairs_[i]);
      a.shape[0] *= 2;
      b.shape[1] *= 2;
    }
    return saved;
  }

  Json Config() const override {
    Json config = Lora::Config();
    config["r"] = 2 * options_.rank;
    config["lora_alpha"] = options_.alpha * (options_.rslora ? std::sqrt(2.0) : 2.0);
    return config;
  }

 private:
  struct Pair {
    int64_t layer;
    Slot slot;
    Tensor a, b;    // trained
    Tensor a0, b0;  // A0 and -B0
  };

  static Tensor Copy(const Tensor& t) {
    Tensor copy = Tensor::Empty(t.rows(), t.cols());
    std::copy_n(t.data(), t.size(), copy.data());
    return copy;
  }
  static Tensor JoinA(const Pair& pair) {  // [2 r, n_in]
    Tensor a = Tensor::Empty(2 * pair.a.rows(), pair.a.cols());
    std::copy_n(pair.a.data(), pair.a.size(), a.data());
    std::copy_n(pair.a0.data(), pair.a0.size(), a.row(pair.a.rows()));
    return a;
  }
  static Tensor JoinB(const Pair& pair) {  // [n_out, 2 r]
    const int64_t r = pair.b.cols();
    Tensor b = Tensor::Empty(pair.b.rows(), 2 * r);
    for (int64_t i = 0; i < b.rows(); ++i) {
      std::copy_n(pair.b.row(i), r, b.row(i));
      std::copy_n(pair.b0.row(i), r, b.row(i) + r);
    }
    return b;
  }

  std::vector<Pair> pairs_;  // in the order of the targets, as parameters() are
};

}  // namespace

std::unique_ptr<Method> MakePissa(const Model& model, const PeftOptions& options) {
  return std::make_unique<Pissa>(model, options);
}

}  // namespace thimble
