#include "ops/linear.h"

#include <array>

#include "codec/codec.h"
#include "ops/test_support.h"

namespace thimble {
namespace {

// A weight of any type with its bytes and its values.
struct TestWeight {
  std::vector<uint8_t> bytes;
  std::vector<float> bias;
  Matrix values;
  Weight weight;
};

TestWeight MakeWeight(WeightType type, int64_t n_out, int64_t n_in, bool with_bias, uint64_t seed = 1) {
  TestWeight w;
  const Tensor source = RandomTensor(n_out, n_in, seed, 1 / std::sqrt(static_cast<double>(n_in)));
  const size_t row = RowBytes(type, n_in);
  w.bytes.resize(row * static_cast<size_t>(n_out));
  const Tensor decoded = Tensor::Empty(n_out, n_in);
  for (int64_t i = 0; i < n_out; ++i) {
    uint8_t* const at = w.bytes.data() + row * static_cast<size_t>(i);
    EncodeRow(type, source.row(i), at, n_in);
    DecodeRow(type, at, decoded.row(i), n_in);
  }
  w.values = ToMatrix(decoded);
  if (with_bias) {
    const Tensor bias = RandomTensor(1, n_out, seed + 1);
    w.bias.assign(bias.data(), bias.data() + n_out);
  }
  w.weight = {"w",
              type,
              n_out,
              n_in,
              w.bytes.data(),
              with_bias ? w.bias.data() : nullptr,
              std::make_shared<PackedWeight>(std::make_shared<Arena>(), nullptr)};
  return w;
}

Matrix ReferenceLinear(const TestWeight& w, const Matrix& x) {
  Matrix y(x.rows, w.values.rows);
  for (int64_t i = 0; i < y.rows; ++i) {
    for (int64_t o = 0; o < y.cols; ++o) {
      double sum = w.bias.empty() ? 0 : w.bias[static_cast<size_t>(o)];
      for (int64_t j = 0; j < x.cols; ++j) sum += x.at(i, j) * w.values.at(o, j);
      y.at(i, o) = sum;
    }
  }
  return y;
}

class LinearTest : public OpsTest {
 protected:
  // What run(ctx, tape) returns in F32 and, on one and on three threads, in BF16.
  template <typename Run>
  auto InF32AndBf16(const Run& run) const {
    ThreadPool one(1), three(3);
    std::vector<decltype(run(std::declval<const Context&>(), std::declval<Tape&>()))> results;
    for (const auto& [pool, compute] : {std::pair(&one, Compute::kF32), std::pair(&one, Compute::kBf16),
                                        std::pair(&three, Compute::kBf16)}) {
      Context ctx = ContextOn(*pool, compute);
      Tape tape;
      ctx.tape = &tape;
      results.push_back(run(ctx, tape));
    }
    return results;
  }
};
INSTANTIATE_TEST_SUITE_P(Tiers, LinearTest, testing::ValuesIn(AllTiers()), TierName);

TEST_P(LinearTest, EveryWeightType) {
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.decodable) continue;
    SCOPED_TRACE(info.name);
    // More rows than a backward tile, and no multiple of any tile.
    const int64_t n_in = std::max<int64_t>(info.block_size, 32), n_out = 131;
    const TestWeight w = MakeWeight(info.type, n_out, n_in, true);
    const Tensor x = RandomTensor(3, n_in, 7);
    x.set_requires_grad(true);
    CheckOp([&](const Context& ctx, const auto& in) { return Linear(ctx, w.weight, in[0]); },
            [&](const auto& in) { return ReferenceLinear(w, in[0]); }, {x});
  }
}

TEST_P(LinearTest, ManyRowsWithoutBias) {
  const TestWeight w = MakeWeight(WeightType::kF32, 10, 24, false);
  const Tensor x = RandomTensor(50, 24, 7);
  x.set_requires_grad(true);
  CheckOp([&](const Context& ctx, const auto& in) { return Linear(ctx, w.weight, in[0]); },
          [&](const auto& in) { return ReferenceLinear(w, in[0]); }, {x});
}

// An activation is off by at most half a step of its block of 32, max|x| / 127, so a product is off by at
// most sum over blocks of max|x| / 254 * sum |w|. The kernels may round scales once more: 1 % on top.
// Input, weight and bias, each with and without a gradient.
TEST_P(LinearTest, TrainedWeights) {
  const Op op = [](const Context& ctx, const std::vector<Tensor>& in) {
    return Linear(ctx, TrainedWeight("w", in[1], in[2]), in[0]);
  };
  const Reference reference = [](const std::vector<Matrix>& in) {
    Matrix y(in[0].rows, in[1].rows);
    for (int64_t i = 0; i < y.rows; ++i) {
      for (int64_t o = 0; o < y.cols; ++o) {
        y.at(i, o) = in[2].at(0, o);
        for (int64_t j = 0; j < in[0].cols; ++j) y.at(i, o) += in[0].at(i, j) * in[1].at(o, j);
      }
    }
    return y;
  };
  for (int trained = 1; trained < 8; ++trained) {
    SCOPED_TRACE(trained);
    const std::vector<Tensor> inputs{RandomTensor(21, 24, 1), RandomTensor(37, 24, 2),
                                     RandomTensor(1, 37, 3)};
    for (size_t i = 0; i < 3; ++i) inputs[i].set_requires_grad((trained >> i & 1) != 0);
    CheckOp(op, reference, inputs);
  }
}

TEST_P(LinearTest, Int8StaysWithinItsBound) {
  ThreadPool one(1), three(3);
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.quantized || !info.decodable) continue;
    SCOPED_TRACE(info.name);
    const int64_t n_in = 256, n_out = 37, m = 5;
    const TestWeight w = MakeWeight(info.type, n_out, n_in, true);
    const Tensor x = RandomTensor(m, n_in, 3);
    const Tensor y = Linear(ContextOn(one, Compute::kInt8), w.weight, x);
    const Tensor threaded = Linear(ContextOn(three, Compute::kInt8), w.weight, x);
    const Matrix exact = ReferenceLinear(w, ToMatrix(x));
    double rounded = 0;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t o = 0; o < n_out; ++o) {
        double bound = 1e-5;
        for (int64_t b = 0; b < n_in; b += 32) {
          double highest = 0, weights = 0;
          for (int64_t j = b; j < b + 32; ++j) {
            highest = std::max<double>(highest, std::fabs(x.row(i)[j]));
            weights += std::fabs(w.values.at(o, j));
          }
          bound += 1.01 * highest / 254 * weights;
        }
        ASSERT_NEAR(y.row(i)[o], exact.at(i, o), bound) << i << ", " << o;
        ASSERT_EQ(y.row(i)[o], threaded.row(i)[o]);
        rounded = std::max(rounded, std::fabs(y.row(i)[o] - exact.at(i, o)));
      }
    }
    EXPECT_GT(rounded, 1e-4) << "the integer product was not used";
  }
}

// Made row by row or computed first, what is multiplied is the same.
TEST_P(LinearTest, InputsMadeOnTheWayEqualTheOperations) {
  constexpr int64_t kIn = 64;
  ThreadPool pool(3);
  const Tensor norm = RandomTensor(1, kIn, 9);
  for (const WeightType type : {WeightType::kQ8_0, WeightType::kF16, WeightType::kBF16, WeightType::kF32}) {
    const TestWeight w = MakeWeight(type, 24, kIn, true),
                     other = MakeWeight(WeightType::kQ4_0, 24, kIn, false);
    const Context ctx = ContextOn(pool, Compute::kInt8);
    for (const int64_t m : {1, 37}) {
      const auto run = [&](const LinearInput& input) {
        const Weight* const weights[] = {&w.weight, &other.weight};
        Tensor y[2];
        Linear(ctx, weights, input, y);
        Linear(ctx, std::span(weights).first(1), input, std::span(y).first(1));
        return std::vector<std::vector<float>>{{y[0].data(), y[0].data() + y[0].size()},
                                               {y[1].data(), y[1].data() + y[1].size()}};
      };
      const Tensor x = RandomTensor(m, kIn, 7), up = RandomTensor(m, kIn, 8);
      EXPECT_EQ(run(LinearInput::Normed(x, norm, 1e-5f)), run(RmsNorm(ctx, x, norm, 1e-5f)));
      for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
        const auto gated = [&] { return LinearInput::Gated(RandomTensor(m, kIn, 7), up, activation); };
        EXPECT_EQ(run(gated()), run(gated().Whole(ctx)));
      }
    }
  }
}

Matrix ReferenceLora(const std::vector<Matrix>& in, double scale, const Matrix* mask = nullptr) {
  const Matrix &x = in[0], &a = in[1], &b = in[2];
  Matrix y = in[3];
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t r = 0; r < a.rows; ++r) {
      double h = 0;
      for (int64_t j = 0; j < x.cols; ++j) h += x.at(i, j) * (mask ? mask->at(i, j) : 1) * a.at(r, j);
      for (int64_t o = 0; o < y.cols; ++o) y.at(i, o) += scale * h * b.at(o, r);
    }
  }
  return y;
}

Tensor RunLora(const Context& ctx, const std::vector<Tensor>& in, float scale, float dropout, uint64_t seed) {
  const Tensor y = Copy(ctx, in[3]);
  AddLora(ctx, in[0], {in[1], in[2], scale, dropout, seed}, y);
  return y;
}

std::vector<Tensor> LoraInputs(int64_t m) {
  std::vector<Tensor> in{RandomTensor(m, 20, 1), RandomTensor(18, 20, 2), RandomTensor(14, 18, 3),
                         RandomTensor(m, 14, 4)};
  for (const Tensor& t : in) t.set_requires_grad(true);
  return in;
}

TEST_P(LinearTest, LoraAddsItsTerm) {
  for (const int64_t m : {2, 37, 68}) {  // each on its own path
    CheckOp([](const Context& ctx, const auto& in) { return RunLora(ctx, in, 1.75f, 0, 0); },
            [](const auto& in) { return ReferenceLora(in, 1.75); }, LoraInputs(m));
  }
}

TEST_P(LinearTest, LoraWithOneSideFrozen) {
  for (const size_t frozen : {0, 1, 2}) {
    const auto in = LoraInputs(17);
    in[frozen].set_requires_grad(false);
    CheckOp([](const Context& ctx, const auto& in) { return RunLora(ctx, in, 0.5f, 0, 0); },
            [](const auto& in) { return ReferenceLora(in, 0.5); }, in);
  }
}

// The mask that a seed draws, seen through an identity: x = 1, A = one row of ones per column, B likewise.
Matrix MaskOf(const KernelTable& kernels, int64_t m, int64_t n, float dropout, uint64_t seed) {
  ThreadPool pool(1);
  const Context ctx{.pool = pool, .kernels = kernels, .compute = Compute::kF32};
  const Tensor x = Tensor::Empty(m, n), eye = Tensor::Zeros(n, n), y = Tensor::Zeros(m, n);
  std::fill(x.data(), x.data() + x.size(), 1.0f);
  for (int64_t i = 0; i < n; ++i) eye.row(i)[i] = 1;
  AddLora(ctx, x, {eye, eye, 1, dropout, seed}, y);
  return ToMatrix(y);
}

TEST_P(LinearTest, LoraDropsOutAlikeForwardAndBackward) {
  const auto in = LoraInputs(37);
  const Matrix mask = MaskOf(kernels_, 37, 20, 0.25f, 5);
  CheckOp([](const Context& ctx, const auto& in) { return RunLora(ctx, in, 1.75f, 0.25f, 5); },
          [&](const auto& in) { return ReferenceLora(in, 1.75, &mask); }, in);
}

TEST_P(LinearTest, DropoutKeepsTheStatedShareAndFollowsItsSeed) {
  const Matrix mask = MaskOf(kernels_, 400, 50, 0.25f, 5);
  double kept = 0;
  for (const double v : mask.values) {
    ASSERT_TRUE(v == 0 || std::fabs(v - 1 / 0.75) < 1e-6) << v;
    kept += v != 0;
  }
  EXPECT_NEAR(kept / 20000, 0.75, 0.015);  // five standard deviations
  EXPECT_EQ(mask.values, MaskOf(kernels_, 400, 50, 0.25f, 5).values);
  const Matrix other = MaskOf(kernels_, 400, 50, 0.25f, 6);
  int64_t different = 0;
  for (size_t i = 0; i < mask.values.size(); ++i) different += mask.values[i] != other.values[i];
  EXPECT_NEAR(static_cast<double>(different) / 20000, 2 * 0.25 * 0.75, 0.02);
}

double RelativeError(const std::vector<float>& found, const std::vector<float>& exact) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - exact[i], 2);
    norm += std::pow(static_cast<double>(exact[i]), 2);
  }
  return std::sqrt(error / norm);
}

// dx of an integer product is one too: near that of the decoded weight, the same on any number of threads,
// also of gradients too small for F16.
TEST_P(LinearTest, IntegerGradients) {
  constexpr int64_t kRows = 40, kOut = 96, kIn = 256;
  ThreadPool one(1), three(3);
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.decodable || !info.quantized) continue;
    for (const float size : {1.0f, 1e-9f}) {
      SCOPED_TRACE(fmt::format("{}, {}", info.name, size));
      const TestWeight w = MakeWeight(info.type, kOut, kIn, true);
      const Tensor dy = RandomTensor(kRows, kOut, 5, size);
      std::vector<std::vector<float>> gradients;
      for (const auto& [pool, compute] : {std::pair(&one, Compute::kF32), std::pair(&one, Compute::kInt8),
                                          std::pair(&three, Compute::kInt8)}) {
        Context ctx = ContextOn(*pool, compute);
        Tape tape;
        ctx.tape = &tape;
        ctx.integer_gradients = true;
        EXPECT_EQ(IntegerGradientUseOf(ctx, w.weight, 4).packed > 0, compute == Compute::kInt8);
        const Tensor x = RandomTensor(kRows, kIn, 6);
        x.set_requires_grad(true);
        const Tensor y = Linear(ctx, w.weight, x);
        std::copy_n(dy.data(), dy.size(), y.grad());
        tape.Backward();
        gradients.emplace_back(x.grad(), x.grad() + x.size());
      }
      EXPECT_EQ(gradients[1], gradients[2]);
      EXPECT_LT(RelativeError(gradients[1], gradients[0]), 0.02);
    }
  }
}

// Products of decoded weights in BF16 and their gradients are near those in F32, also where the weight is
// more than is packed at a time, and the same on any number of threads.
TEST_P(LinearTest, Bf16) {
  if (kernels_.matmul_bf16 == nullptr) GTEST_SKIP() << kernels_.name << " has no BF16 product";
  constexpr int64_t kRows = 75, kOut = 2100, kIn = 288;
  const Tensor dy = RandomTensor(kRows, kOut, 5, 1e-9f);
  for (const WeightType type : {WeightType::kF32, WeightType::kQ4_1, WeightType::kBF16}) {
    SCOPED_TRACE(Info(type).name);
    const TestWeight w = MakeWeight(type, kOut, kIn, true);
    const auto results = InF32AndBf16([&](const Context& ctx, Tape& tape) {
      const Tensor x = RandomTensor(kRows, kIn, 6);
      x.set_requires_grad(true);
      const Tensor y = Linear(ctx, w.weight, x);
      std::copy_n(dy.data(), dy.size(), y.grad());
      tape.Backward();
      return std::array{std::vector(y.data(), y.data() + y.size()),
                        std::vector(x.grad(), x.grad() + x.size())};
    });
    EXPECT_EQ(results[1], results[2]);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_NE(results[0][i], results[1][i]);
      // 2^-9 for each of two factors, and by chance of either sign
      EXPECT_LT(RelativeError(results[1][i], results[0][i]), 0.004);
    }
  }
}

// The same of several weights with LoRA beside some of them, and of inputs that are made row by row.
TEST_P(LinearTest, Bf16WithLora) {
  if (kernels_.matmul_bf16 == nullptr) GTEST_SKIP() << kernels_.name << " has no BF16 product";
  constexpr int64_t kRows = 75, kIn = 96;
  const TestWeight w[] = {MakeWeight(WeightType::kQ4_1, 6000, kIn, true, 1),
                          MakeWeight(WeightType::kF32, 34, kIn, false, 2),
                          MakeWeight(WeightType::kQ8_0, 130, kIn, false, 3)};
  for (const char* kind : {"plain", "normed", "gated", "trained"}) {
    SCOPED_TRACE(kind);
    const auto results = InF32AndBf16([&](const Context& ctx, Tape& tape) {
      std::vector<Tensor> inputs;
      inputs.push_back(RandomTensor(kRows, kIn, 6));
      const LinearInput x = [&]() -> LinearInput {
        if (kind == std::string_view("normed")) {
          inputs.push_back(RandomTensor(1, kIn, 7));
          return LinearInput::Normed(inputs[0], inputs[1], 1e-5f);
        }
        if (kind != std::string_view("gated")) return inputs[0];
        inputs.push_back(RandomTensor(kRows, kIn, 8));
        return LinearInput::Gated(inputs[0], inputs[1], Activation::kSilu);
      }();
      const LoraTerm loras[] = {{RandomTensor(8, kIn, 10, 0.2), RandomTensor(6000, 8, 11, 0.2), 2},
                                {},
                                {RandomTensor(35, kIn, 12, 0.2), RandomTensor(130, 35, 13, 0.2), 0.5f}};
      for (const int i : {0, 2}) {
        inputs.push_back(loras[i].a);
        inputs.push_back(loras[i].b);
      }
      Weight trained = w[1].weight;
      if (kind == std::string_view("trained")) {
        inputs.push_back(Tensor::Empty(34, kIn));
        std::copy_n(reinterpret_cast<const float*>(w[1].weight.data), inputs.back().size(),
                    inputs.back().data());
        trained = TrainedWeight("w", inputs.back());
      }
      for (const Tensor& t : inputs) t.set_requires_grad(true);
      const Weight* const weights[] = {&w[0].weight, &trained, &w[2].weight};
      Tensor y[3];
      Linear(ctx, weights, x, y, loras);
      for (uint64_t i = 0; i < 3; ++i) {
        const Tensor dy = RandomTensor(kRows, y[i].cols(), 20 + i, 1e-9f);
        std::copy_n(dy.data(), dy.size(), y[i].grad());
      }
      tape.Backward();
      std::vector<std::vector<float>> tensors;
      for (const Tensor& t : y) tensors.emplace_back(t.data(), t.data() + t.size());
      for (const Tensor& t : inputs) tensors.emplace_back(t.grad(), t.grad() + t.size());
      return tensors;
    });
    EXPECT_EQ(results[1], results[2]);
    for (size_t i = 0; i < results[0].size(); ++i)
      EXPECT_LT(RelativeError(results[1][i], results[0][i]), 0.006) << "tensor " << i;
  }
}

// A gated layer and the one behind it: its factors are rounded once more.
TEST_P(LinearTest, Bf16GatedLinear) {
  if (kernels_.matmul_bf16 == nullptr) GTEST_SKIP() << kernels_.name << " has no BF16 product";
  constexpr int64_t kRows = 75, kIn = 96, kHidden = 320;
  const TestWeight gate = MakeWeight(WeightType::kQ4_1, kHidden, kIn, false, 1),
                   up = MakeWeight(WeightType::kQ8_0, kHidden, kIn, false, 2),
                   down = MakeWeight(WeightType::kQ4_0, kIn, kHidden, false, 3);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const bool whole : {false, true}) {  // something else than a product reads what is between them
      const auto results = InF32AndBf16([&](const Context& ctx, Tape& tape) {
        const Tensor x = RandomTensor(kRows, kIn, 6, 2);
        const LoraTerm loras[] = {{RandomTensor(8, kIn, 10, 0.2), RandomTensor(kHidden, 8, 11, 0.2), 2}, {}};
        const LoraTerm behind[] = {{RandomTensor(4, kHidden, 12, 0.2), RandomTensor(kIn, 4, 13, 0.2), 0.5f}};
        const std::vector<Tensor> inputs{x, loras[0].a, loras[0].b, behind[0].a, behind[0].b};
        for (const Tensor& t : inputs) t.set_requires_grad(true);
        const Weight* const both[] = {&gate.weight, &up.weight};
        const Weight* const next[] = {&down.weight};
        LinearInput hidden = GatedLinear(ctx, both, x, activation, loras);
        if (whole) hidden = hidden.Whole(ctx);
        Tensor y;
        Linear(ctx, next, hidden, {&y, 1}, behind);
        const Tensor dy = RandomTensor(kRows, kIn, 20, 1e-9f);
        std::copy_n(dy.data(), dy.size(), y.grad());
        tape.Backward();
        std::vector<std::vector<float>> tensors{{y.data(), y.data() + y.size()}};
        for (const Tensor& t : inputs) tensors.emplace_back(t.grad(), t.grad() + t.size());
        return tensors;
      });
      EXPECT_EQ(results[1], results[2]);
      for (size_t i = 0; i < results[0].size(); ++i)
        EXPECT_LT(RelativeError(results[1][i], results[0][i]), 0.008)
            << "tensor " << i << ", whole " << whole;
    }
  }
}

// What speculative decoding and batches rest on.
TEST_P(LinearTest, RowsDoNotDependOnHowManyAreComputedTogether) {
  constexpr int64_t kIn = 3328, kOut = 38;  // more columns than any kernel takes in one go
  ThreadPool pool(2);
  const Tensor x = RandomTensor(kFewRows, kIn, 7);
  const Tensor a = RandomTensor(20, kIn, 8), b = RandomTensor(kOut, 20, 9);
  for (const WeightTypeInfo& info : AllWeightTypes()) {
    if (!info.decodable) continue;
    const TestWeight w = MakeWeight(info.type, kOut, kIn, true);
    for (Compute compute : {Compute::kF32, Compute::kBf16, Compute::kInt8}) {
      SCOPED_TRACE(std::string(info.name) + ", " + Name(compute));
      const Context ctx = ContextOn(pool, compute);
      const auto run = [&](int64_t begin, int64_t m) {
        Tensor rows = Tensor::Empty(m, kIn);
        std::copy(x.row(begin), x.row(begin) + m * kIn, rows.data());
        const Tensor y = Linear(ctx, w.weight, rows);
        AddLora(ctx, rows, {a, b, 0.5f}, y);
        return std::vector<float>(y.data(), y.data() + y.size());
      };
      std::vector<float> alone;
      for (int64_t i = 0; i < kFewRows; ++i) {
        const auto row = run(i, 1);
        alone.insert(alone.end(), row.begin(), row.end());
      }
      for (int64_t m : {2, 3, 4, 5, 8, 9, 13, 16}) {
        const std::vector<float> expected(alone.begin(), alone.begin() + m * kOut);
        EXPECT_EQ(run(0, m), expected) << m << " rows";
      }
    }
  }
}

}  // namespace
}  // namespace thimble
