#include "ops/attention.h"

#include "ops/test_support.h"

namespace thimble {
namespace {

class AttentionTest : public OpsTest {};
INSTANTIATE_TEST_SUITE_P(Tiers, AttentionTest, testing::ValuesIn(AllTiers()), TierName);

// One query, one head, one key at a time, as the paper writes it.
Matrix ReferenceAttention(const std::vector<Matrix>& in, const std::vector<AttentionSegment>& segments,
                          const AttentionParams& p) {
  const Matrix &q = in[0], &k = in[1], &v = in[2];
  Matrix y(q.rows, q.cols);
  const int64_t d = p.head_dim;
  for (const AttentionSegment& s : segments) {
    for (int64_t i = 0; i < s.q_len; ++i) {
      const int64_t position = s.kv_len - s.q_len + i;
      const int64_t first = p.window > 0 ? std::max<int64_t>(0, position - p.window + 1) : 0;
      for (int64_t h = 0; h < p.n_heads; ++h) {
        const int64_t kv_head = h * p.n_kv_heads / p.n_heads;
        std::vector<double> e;
        double sum = 0;
        for (int64_t j = first; j <= position; ++j) {
          double score = 0;
          for (int64_t c = 0; c < d; ++c)
            score += q.at(s.q_begin + i, h * d + c) * k.at(s.kv_begin + j, kv_head * d + c);
          e.push_back(std::exp(score * p.scale));
          sum += e.back();
        }
        for (int64_t j = first; j <= position; ++j) {
          for (int64_t c = 0; c < d; ++c) {
            y.at(s.q_begin + i, h * d + c) +=
                e[static_cast<size_t>(j - first)] / sum * v.at(s.kv_begin + j, kv_head * d + c);
          }
        }
      }
    }
  }
  return y;
}

struct Case {
  const char* name;
  std::vector<AttentionSegment> segments;
  AttentionParams params;
};

TEST_P(AttentionTest, EveryKind) {
  const Case cases[] = {
      {"one head", {{0, 5, 0, 5}}, {1, 1, 4, 0.7f, 0}},
      {"grouped queries", {{0, 6, 0, 6}}, {6, 2, 4, 0.5f, 0}},
      {"segments", {{0, 4, 0, 4}, {4, 1, 4, 1}, {5, 7, 5, 7}}, {2, 1, 4, 0.5f, 0}},
      {"window", {{0, 9, 0, 9}, {9, 3, 9, 3}}, {2, 2, 4, 0.5f, 3}},
      {"window of one", {{0, 4, 0, 4}}, {2, 2, 4, 0.5f, 1}},
      {"over a query block", {{0, 37, 0, 37}}, {2, 1, 2, 0.8f, 0}},
      {"window over a query block", {{0, 37, 0, 37}}, {2, 1, 2, 0.8f, 5}},
      {"after a cache", {{0, 3, 0, 8}}, {2, 1, 4, 0.5f, 0}},
      {"after a cache, window", {{0, 3, 0, 8}}, {2, 1, 4, 0.5f, 4}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    int64_t queries = 0, keys = 0;
    for (const AttentionSegment& s : c.segments) {
      queries = std::max(queries, s.q_begin + s.q_len);
      keys = std::max(keys, s.kv_begin + s.kv_len);
    }
    const int64_t kv_dim = c.params.n_kv_heads * c.params.head_dim;
    std::vector<Tensor> in{RandomTensor(queries, c.params.n_heads * c.params.head_dim, 1),
                           RandomTensor(keys, kv_dim, 2), RandomTensor(keys, kv_dim, 3)};
    for (const Tensor& t : in) t.set_requires_grad(true);
    CheckOp([&](const Context& ctx,
                const auto& t) { return Attention(ctx, t[0], t[1], t[2], c.segments, c.params); },
            [&](const auto& m) { return ReferenceAttention(m, c.segments, c.params); }, in);
  }
}

// A cache has room behind its last key: what lies there must not matter, not even if it is no number.
TEST_P(AttentionTest, DoesNotLookBehindTheLastKey) {
  ThreadPool pool(2);
  const Tensor q = RandomTensor(2, 8, 1), k = RandomTensor(9, 4, 2), v = RandomTensor(9, 4, 3);
  const std::vector<AttentionSegment> segments{{0, 2, 0, 6}};
  const AttentionParams params{2, 1, 4, 0.5f, 0};
  const Matrix expected = ReferenceAttention({ToMatrix(q), ToMatrix(k), ToMatrix(v)}, segments, params);
  for (int64_t i = 6 * 4; i < 9 * 4; ++i) k.data()[i] = v.data()[i] = NAN;
  const Tensor y = Attention(ContextOn(pool), q, k, v, segments, params);
  ExpectNear(y.data(), expected, 1e-5, "value");
}

// Products in BF16 and their gradients are near those in F32, and the same on any number of threads.
TEST_P(AttentionTest, Bf16) {
  if (kernels_.matmul_bf16 == nullptr) GTEST_SKIP() << kernels_.name << " has no BF16 product";
  const Case cases[] = {
      {"one query", {{0, 1, 0, 1}}, {1, 1, 2, 0.7f, 0}},
      {"grouped queries", {{0, 150, 0, 150}}, {9, 3, 64, 0.125f, 0}},
      {"segments", {{0, 67, 0, 67}, {67, 1, 67, 1}, {68, 33, 68, 33}}, {5, 1, 18, 0.3f, 0}},
      {"several chunks", {{0, 700, 0, 700}, {700, 261, 700, 261}}, {4, 2, 32, 0.2f, 0}},
      {"window", {{0, 600, 0, 600}, {600, 3, 600, 3}}, {3, 1, 32, 0.2f, 70}},
      {"window of one", {{0, 70, 0, 70}}, {2, 2, 16, 0.2f, 1}},
      {"after prefixes", {{0, 250, 0, 267}, {250, 3, 267, 300}}, {7, 1, 16, 0.3f, 0}},
      {"after prefixes, window", {{0, 250, 0, 267}, {250, 3, 267, 600}}, {7, 1, 16, 0.3f, 100}},
      {"more heads than rows", {{0, 5, 0, 5}}, {100, 1, 16, 0.3f, 0}},
  };
  ThreadPool one(1), three(3);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const AttentionSegment& last = c.segments.back();
    const int64_t queries = last.q_begin + last.q_len, keys = last.kv_begin + last.kv_len;
    const int64_t dim = c.params.n_heads * c.params.head_dim,
                  kv_dim = c.params.n_kv_heads * c.params.head_dim;
    const Tensor dy = RandomTensor(queries, dim, 4);
    std::vector<std::vector<float>> results[3];  // the value and the gradients of q, k and v
    for (const auto& [i, pool, compute] :
         {std::tuple(0, &one, Compute::kF32), {1, &one, Compute::kBf16}, {2, &three, Compute::kBf16}}) {
      Context ctx = ContextOn(*pool, compute);
      Tape tape;
      ctx.tape = &tape;
      const std::vector<Tensor> in{RandomTensor(queries, dim, 1), RandomTensor(keys, kv_dim, 2),
                                   RandomTensor(keys, kv_dim, 3)};
      for (const Tensor& t : in) {
        t.set_requires_grad(true);
        std::fill_n(t.grad(), t.size(), 0.5f);  // to which gradients are added
      }
      const Tensor y = Attention(ctx, in[0], in[1], in[2], c.segments, c.params);
      std::copy_n(dy.data(), dy.size(), y.grad());
      tape.Backward();
      results[i].emplace_back(y.data(), y.data() + y.size());
      for (const Tensor& t : in) {
        auto& gradient = results[i].emplace_back(t.grad(), t.grad() + t.size());
        for (float& g : gradient) g -= 0.5f;
      }
    }
    EXPECT_EQ(results[1], results[2]);
    for (size_t r = 0; r < results[0].size(); ++r) {
      EXPECT_NE(results[0][r], results[1][r]) << r;
      const size_t n = results[0][r].size();
      double error = 0;
      double norm = 0.1 * static_cast<double>(n);  // where one key is seen, scores have no gradient
      for (size_t i = 0; i < n; ++i) {
        error += std::pow(static_cast<double>(results[1][r][i]) - results[0][r][i], 2);
        norm += std::pow(static_cast<double>(results[0][r][i]), 2);
      }
      EXPECT_LT(std::sqrt(error / norm), 0.006) << r;
    }
  }
}

// Keys and values in a cache of the given types, whose memory is full of NaN at first.
class Cache {
 public:
  Cache(KvTypes types, const AttentionParams& p, int64_t capacity)
      : format_{types, p.n_kv_heads, p.head_dim} {
    for (int64_t i = 0; i < (capacity + kKeyBlock - 1) / kKeyBlock; ++i) {
      memory_.emplace_back(format_.block_bytes(), uint8_t{0xff});
      blocks_.push_back(memory_.back().data());
    }
  }
  KvBlocks blocks() const { return {format_, blocks_}; }

 private:
  KvFormat format_;
  std::vector<std::vector<uint8_t>> memory_;
  std::vector<uint8_t*> blocks_;
};

// Runs the queries `pieces` at a time, each after its own keys have been stored.
std::vector<float> InPieces(const Context& ctx, const std::vector<Tensor>& in, KvTypes types,
                            const AttentionParams& p, const std::vector<int64_t>& pieces) {
  const Cache cache(types, p, in[0].rows());
  std::vector<float> y;
  int64_t done = 0;
  for (const int64_t n : pieces) {
    const Tensor q = Tensor::Empty(n, in[0].cols());
    std::copy(in[0].row(done), in[0].row(done) + q.size(), q.data());
    StoreKeysAndValues(ctx, in[1], in[2], done, n, cache.blocks(), done);
    const Tensor part = CachedAttention(ctx, q, done, cache.blocks(), p);
    y.insert(y.end(), part.data(), part.data() + part.size());
    done += n;
  }
  return y;
}

constexpr WeightType kCacheTypes[] = {WeightType::kF32, WeightType::kF16, WeightType::kQ8_0,
                                      WeightType::kQ4_0};

// Over several blocks and spans, with the last positions in the middle of a block.
TEST_P(AttentionTest, AQueryDoesNotDependOnThoseBesideIt) {
  constexpr int64_t kTokens = 600;
  std::vector<int64_t> pieces{300, 1, 3, 255, 8, 33};  // sums up to kTokens
  ThreadPool one(1), three(3);
  for (const int64_t window : {0, 70, 300}) {
    for (const WeightType type : {WeightType::kF32, WeightType::kQ8_0}) {
      SCOPED_TRACE(testing::Message() << Name(type) << ", window " << window);
      const AttentionParams p{3, 1, 32, 0.4f, window};
      const std::vector<Tensor> in{RandomTensor(kTokens, 96, 1), RandomTensor(kTokens, 32, 2),
                                   RandomTensor(kTokens, 32, 3)};
      const KvTypes types{type, type};
      const std::vector<float> at_once = InPieces(ContextOn(one), in, types, p, {kTokens});
      EXPECT_EQ(at_once, InPieces(ContextOn(three), in, types, p, {kTokens}));
      EXPECT_EQ(at_once, InPieces(ContextOn(one), in, types, p, pieces));
      EXPECT_EQ(at_once, InPieces(ContextOn(three), in, types, p, pieces));
      EXPECT_EQ(at_once, InPieces(ContextOn(three), in, types, p, std::vector<int64_t>(kTokens, 1)));
      if (type != WeightType::kF32) continue;
      const Tensor batch = Attention(ContextOn(three), in[0], in[1], in[2], {{0, kTokens, 0, kTokens}}, p);
      EXPECT_EQ(at_once, std::vector<float>(batch.data(), batch.data() + batch.size()));
      const std::vector<AttentionSegment> segments{{0, kTokens, 0, kTokens}};
      ExpectNear(at_once.data(),
                 ReferenceAttention({ToMatrix(in[0]), ToMatrix(in[1]), ToMatrix(in[2])}, segments, p), 1e-5,
                 "value");
    }
  }
}

// The same as attention to the keys and values as they come back from the types.
TEST_P(AttentionTest, EveryCacheType) {
  constexpr int64_t kTokens = 150;
  ThreadPool pool(2);
  const Context ctx = ContextOn(pool);
  const AttentionParams p{6, 2, 64, 0.2f, 0};
  const std::vector<Tensor> in{RandomTensor(kTokens, 384, 1), RandomTensor(kTokens, 128, 2),
                               RandomTensor(kTokens, 128, 3)};
  const auto rounded = [&](WeightType type, const Tensor& x) {
    std::vector<uint8_t> row(RowBytes(type, x.size()));
    const Tensor y = Tensor::Empty(x.rows(), x.cols());
    kernels_.encode_row[static_cast<size_t>(type)](x.data(), row.data(), x.size());
    kernels_.decode_row[static_cast<size_t>(type)](row.data(), y.data(), x.size());
    return y;
  };
  for (const WeightType k : kCacheTypes) {
    for (const WeightType v : kCacheTypes) {
      SCOPED_TRACE(testing::Message() << "keys " << Name(k) << ", values " << Name(v));
      const std::vector<Tensor> as_stored{in[0], rounded(k, in[1]), rounded(v, in[2])};
      EXPECT_EQ(InPieces(ctx, in, {k, v}, p, {100, 50}),
                InPieces(ctx, as_stored, {WeightType::kF32, WeightType::kF32}, p, {150}));
    }
  }
}

TEST_P(AttentionTest, RefusesTypesThatDoNotFit) {
  using enum WeightType;
  EXPECT_TRUE((KvFormat{{kQ8_0, kQ4_0}, 1, 64}.Check()));
  EXPECT_TRUE((KvFormat{{kF32, kF16}, 1, 17}.Check()));
  const Status blocks = KvFormat{{kF16, kQ4_0}, 1, 80}.Check();
  ASSERT_FALSE(blocks);
  EXPECT_NE(blocks.error().message.find("heads of 80"), std::string::npos) << blocks.error().message;
  const Status type = KvFormat{{kQ4_K, kF16}, 1, 256}.Check();
  ASSERT_FALSE(type);
  EXPECT_NE(type.error().message.find("Q4_K"), std::string::npos) << type.error().message;
}

}  // namespace
}  // namespace thimble
