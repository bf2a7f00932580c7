// The operations without weights: norms, RoPE, activations, sums, and the embedding.
#include "codec/codec.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/norm.h"
#include "ops/prepend.h"
#include "ops/rope.h"
#include "ops/test_support.h"

namespace thimble {
namespace {

class OpTest : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Tiers, OpTest, testing::ValuesIn(AllTiers()), TierName);

Tensor Trained(Tensor t) {
  t.set_requires_grad(true);
  return t;
}

TEST_P(OpTest, RmsNormOfRowsAndOfHeads) {
  for (const int64_t group : {24, 8}) {
    const float eps = 0.02f;
    const auto reference = [&](const std::vector<Matrix>& in) {
      Matrix y = in[0];
      const auto& weight = in[1].values;
      for (size_t begin = 0; begin < y.values.size(); begin += weight.size()) {
        double squares = 0;
        for (size_t j = 0; j < weight.size(); ++j) squares += y.values[begin + j] * y.values[begin + j];
        const double s = 1 / std::sqrt(squares / static_cast<double>(group) + eps);
        for (size_t j = 0; j < weight.size(); ++j) y.values[begin + j] *= s * weight[j];
      }
      return y;
    };
    const Op op = [&](const Context& ctx, const auto& in) { return RmsNorm(ctx, in[0], in[1], eps); };
    CheckOp(op, reference, {Trained(RandomTensor(6, 24, 1)), RandomTensor(1, group, 5)});
    CheckOp(op, reference, {Trained(RandomTensor(6, 24, 1)), Trained(RandomTensor(1, group, 5))});
    CheckOp(op, reference, {RandomTensor(6, 24, 1), Trained(RandomTensor(1, group, 5))});
  }
}

TEST_P(OpTest, RopeTurnsPairs) {
  const std::vector<int32_t> positions{0, 1, 2, 0, 7, 1000};
  const std::vector<double> frequencies{1.0, 0.3, 0.01};
  for (const RopeStyle style : {RopeStyle::kHalf, RopeStyle::kInterleaved}) {
    const auto reference = [&](const std::vector<Matrix>& in) {
      Matrix y = in[0];
      for (int64_t i = 0; i < y.rows; ++i) {
        for (int64_t head = 0; head < 2; ++head) {
          for (int64_t p = 0; p < 3; ++p) {
            const int64_t first = head * 6 + (style == RopeStyle::kHalf ? p : 2 * p);
            const int64_t second = first + (style == RopeStyle::kHalf ? 3 : 1);
            const double angle = positions[static_cast<size_t>(i)] * frequencies[static_cast<size_t>(p)];
            const double a = in[0].at(i, first), b = in[0].at(i, second);
            y.at(i, first) = a * std::cos(angle) - b * std::sin(angle);
            y.at(i, second) = a * std::sin(angle) + b * std::cos(angle);
          }
        }
      }
      return y;
    };
    const auto op = [&](const Context& ctx, const std::vector<Tensor>& in) {
      const Tensor y = Copy(ctx, in[0]);
      Rope(ctx, y, MakeRopeTable(positions, frequencies, style));
      return y;
    };
    CheckOp(op, reference, {Trained(RandomTensor(6, 12, 3))});
  }
}

TEST_P(OpTest, GatedActivations) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    const auto reference = [&](const std::vector<Matrix>& in) {
      Matrix y = in[1];
      for (size_t i = 0; i < y.values.size(); ++i) {
        const double x = in[0].values[i];
        y.values[i] *= activation == Activation::kSilu
                           ? x / (1 + std::exp(-x))
                           : 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
      }
      return y;
    };
    CheckOp(
        [&](const Context& ctx, const auto& in) { return GatedActivation(ctx, in[0], in[1], activation); },
        reference, {Trained(RandomTensor(5, 13, 3, 3)), Trained(RandomTensor(5, 13, 4))});
  }
}

// The backward pass must survive gates far out, where exp and tanh saturate.
TEST_P(OpTest, ActivationsSaturate) {
  ThreadPool pool(1);
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    Tape tape;
    Context ctx = ContextOn(pool);
    ctx.tape = &tape;
    const Tensor gate = Trained(Tensor::Empty(1, 4)), up = Trained(Tensor::Empty(1, 4));
    const float far[] = {-1000, -100, 100, 1000};
    std::copy(far, far + 4, gate.data());
    std::fill(up.data(), up.data() + 4, 1.0f);
    const Tensor y = GatedActivation(ctx, gate, up, activation);
    std::fill(y.grad(), y.grad() + 4, 1.0f);
    tape.Backward();
    for (int i = 0; i < 4; ++i) {
      EXPECT_NEAR(y.data()[i], far[i] > 0 ? far[i] : 0, 1e-6);
      EXPECT_NEAR(gate.grad()[i], far[i] > 0 ? 1 : 0, 1e-6);
      EXPECT_NEAR(up.grad()[i], far[i] > 0 ? far[i] : 0, 1e-6);
    }
  }
}

TEST_P(OpTest, AddIntoFeedsBoth) {
  const auto op = [](const Context& ctx, const std::vector<Tensor>& in) {
    const Tensor b = Copy(ctx, in[1]);
    AddInto(ctx, in[0], b);
    return b;
  };
  const auto reference = [](const std::vector<Matrix>& in) {
    Matrix y = in[0];
    for (size_t i = 0; i < y.values.size(); ++i) y.values[i] += in[1].values[i];
    return y;
  };
  CheckOp(op, reference, {Trained(RandomTensor(4, 7, 1)), Trained(RandomTensor(4, 7, 2))});
  CheckOp(op, reference, {RandomTensor(4, 7, 1), Trained(RandomTensor(4, 7, 2))});
}

TEST_P(OpTest, BiasesOfRows) {
  const Op op = [](const Context& ctx, const std::vector<Tensor>& in) {
    const Tensor y = Copy(ctx, in[0]);
    AddBias(ctx, in[1], 0.5f, y);
    return y;
  };
  const Reference reference = [](const std::vector<Matrix>& in) {
    Matrix y = in[0];
    for (int64_t i = 0; i < y.rows; ++i) {
      for (int64_t j = 0; j < y.cols; ++j) y.at(i, j) += 0.5 * in[1].at(0, j);
    }
    return y;
  };
  CheckOp(op, reference, {Trained(RandomTensor(5, 7, 1)), Trained(RandomTensor(1, 7, 2))});
  CheckOp(op, reference, {RandomTensor(5, 7, 1), Trained(RandomTensor(1, 7, 2))});
}

TEST_P(OpTest, Rectified) {
  CheckOp([](const Context& ctx, const std::vector<Tensor>& in) { return Relu(ctx, in[0]); },
          [](const std::vector<Matrix>& in) {
            Matrix y = in[0];
            for (double& v : y.values) v = std::max(v, 0.0);
            return y;
          },
          {Trained(RandomTensor(5, 7, 1))});
}

TEST_P(OpTest, ScaledColumns) {
  const std::vector<float> still = {0.5f, -1, 2, 0, 3, -0.25f, 1};
  for (const float* fixed : {static_cast<const float*>(nullptr), still.data()}) {
    const auto reference = [&](const std::vector<Matrix>& in) {
      Matrix y = in[0];
      for (size_t i = 0; i < y.values.size(); ++i) {
        const double f = fixed != nullptr ? fixed[i % 7] : 0;
        y.values[i] = (y.values[i] - f) * in[1].values[i % 7] + f;
      }
      return y;
    };
    const auto op = [&](const Context& ctx, const auto& in) {
      return ScaleColumns(ctx, in[0], in[1], fixed);
    };
    CheckOp(op, reference, {Trained(RandomTensor(5, 7, 1)), Trained(RandomTensor(1, 7, 2))});
    CheckOp(op, reference, {RandomTensor(5, 7, 1), Trained(RandomTensor(1, 7, 2))});
    CheckOp(op, reference, {Trained(RandomTensor(5, 7, 1)), RandomTensor(1, 7, 2)});
  }
}

// Three sequences, one of them empty, and two rows before each, from columns 1 to 3 of five.
TEST_P(OpTest, PrependAndItsInverse) {
  static const int64_t lengths[] = {2, 0, 3};
  const Op prepend = [](const Context& ctx, const std::vector<Tensor>& in) {
    return Prepend(ctx, in[0], lengths, in[1], 1);
  };
  const Reference prepended = [](const std::vector<Matrix>& in) {
    Matrix y(11, 3);
    const int64_t from[] = {-1, -2, 0, 1, -1, -2, -1, -2, 2, 3, 4};  // -1 - i: row i of what goes before
    for (int64_t i = 0; i < 11; ++i) {
      for (int64_t j = 0; j < 3; ++j)
        y.at(i, j) = from[i] < 0 ? in[1].at(-1 - from[i], j + 1) : in[0].at(from[i], j);
    }
    return y;
  };
  CheckOp(prepend, prepended, {Trained(RandomTensor(5, 3, 1)), Trained(RandomTensor(2, 5, 2))});
  CheckOp(prepend, prepended, {RandomTensor(5, 3, 1), Trained(RandomTensor(2, 5, 2))});
  CheckOp(prepend, prepended, {Trained(RandomTensor(5, 3, 1)), RandomTensor(2, 5, 2)});
  const Op drop = [](const Context& ctx, const std::vector<Tensor>& in) {
    return DropPrepended(ctx, in[0], lengths, 2);
  };
  const Reference dropped = [](const std::vector<Matrix>& in) {
    Matrix y(5, 3);
    const int64_t from[] = {2, 3, 8, 9, 10};
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t j = 0; j < 3; ++j) y.at(i, j) = in[0].at(from[i], j);
    }
    return y;
  };
  CheckOp(drop, dropped, {Trained(RandomTensor(11, 3, 3))});
}

TEST_P(OpTest, TrainedEmbeddingsAddUpWhereATokenStandsTwice) {
  const std::vector<int32_t> ids{8, 0, 8, 3};
  CheckOp([&](const Context& ctx,
              const std::vector<Tensor>& in) { return Embedding(ctx, TrainedWeight("e", in[0]), ids, 1.5f); },
          [&](const std::vector<Matrix>& in) {
            Matrix y(4, in[0].cols);
            for (int64_t i = 0; i < 4; ++i) {
              for (int64_t j = 0; j < y.cols; ++j)
                y.at(i, j) = 1.5 * in[0].at(ids[static_cast<size_t>(i)], j);
            }
            return y;
          },
          {Trained(RandomTensor(9, 64, 1))});
}

TEST_P(OpTest, EmbeddingIsARowOfTheWeightAndFrozen) {
  ThreadPool pool(1);
  Tape tape;
  Context ctx = ContextOn(pool);
  ctx.tape = &tape;
  const Tensor source = RandomTensor(9, 64, 1);
  std::vector<uint8_t> bytes(9 * RowBytes(WeightType::kQ4_1, 64));
  for (int64_t i = 0; i < 9; ++i) {
    EncodeRow(WeightType::kQ4_1, source.row(i), bytes.data() + i * static_cast<int64_t>(bytes.size()) / 9,
              64);
  }
  const Weight w{"embedding", WeightType::kQ4_1, 9, 64, bytes.data(), nullptr, nullptr};
  const std::vector<int32_t> ids{8, 0, 8, 3};
  const Tensor y = Embedding(ctx, w, ids, 1.5f);
  EXPECT_FALSE(y.requires_grad());
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<float> row(64);
    DecodeRow(WeightType::kQ4_1, w.row(ids[static_cast<size_t>(i)]), row.data(), 64);
    for (int64_t j = 0; j < 64; ++j) EXPECT_EQ(y.row(i)[j], 1.5f * row[static_cast<size_t>(j)]);
  }
}

}  // namespace
}  // namespace thimble
