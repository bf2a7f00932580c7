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

}  // namespace
}  // namespace thimble
