#include "codec/ring_search.h"

#include <gtest/gtest.h>

#include <vector>

#include "codec/test_support.h"

namespace thimble {
namespace {

template <int kBits>
struct Problem {
  std::vector<float> x, own, w = GaussianWeights(kRing, 3, 1),
                             feedback = GaussianWeights(kRing * kRing, 4, 0.25);

  explicit Problem(uint64_t seed, double difference = 10)
      : x(GaussianWeights(kRing, seed, Trellis<kBits>::kDeviation)) {
    own = GaussianWeights(kRing, 2, difference);
    for (size_t i = 0; i < kRing; ++i) own[i] += x[i];
    for (float& weight : w) weight = 0.1f + weight * weight;
  }
  RingFeedback Feedback() const { return {feedback.data(), kRing}; }
};

template <typename Search>
std::vector<uint8_t> Packed(const Search& search, int bits) {
  std::vector<uint8_t> codes(static_cast<size_t>(4 * bits));
  search.Pack(codes.data());
  return codes;
}

template <typename Code>
class RingSearchTest : public testing::Test {};
template <int kBitsValue>
struct Width {
  static constexpr int kBits = kBitsValue;
};
using Widths = testing::Types<Width<2>, Width<3>, Width<4>, Width<5>>;
TYPED_TEST_SUITE(RingSearchTest, Widths);

TYPED_TEST(RingSearchTest, VectorsOfAnyWidthFindTheSame) {
  constexpr int kBits = TypeParam::kBits;
  const Problem<kBits> p(1);
  RingSearch<kBits, 8> narrow;
  RingSearch<kBits, 16> wide;
  EXPECT_FLOAT_EQ(narrow.Find(p.x.data(), p.w.data()), wide.Find(p.x.data(), p.w.data()));
  EXPECT_EQ(Packed(narrow, kBits), Packed(wide, kBits));
  narrow.Find(p.x.data(), p.w.data(), p.own.data(), p.Feedback());
  wide.Find(p.x.data(), p.w.data(), p.own.data(), p.Feedback());
  EXPECT_EQ(Packed(narrow, kBits), Packed(wide, kBits));
}

// The ring's bits give the points, and the points the error.
TYPED_TEST(RingSearchTest, SaysWhatItFound) {
  constexpr int kBits = TypeParam::kBits;
  const Problem<kBits> p(1);
  RingSearch<kBits, 8> search;
  for (const bool with_feedback : {false, true}) {
    const float said = with_feedback ? search.Find(p.x.data(), p.w.data(), p.own.data(), p.Feedback())
                                     : search.Find(p.x.data(), p.w.data());
    const std::vector<uint8_t> codes = Packed(search, kBits);
    const auto nibble = [&](int bit) {
      int value = 0;
      for (int i = 0; i < 4; ++i) {
        const int at = (bit + i) % (kBits * kRing);
        value |= (codes[static_cast<size_t>(at / 8)] >> at % 8 & 1) << i;
      }
      return value;
    };
    double error = 0, e[kRing];
    for (int i = 0; i < kRing; ++i) {
      const int point = Trellis<kBits>::kOwn[nibble(kBits * i)] +
                        Trellis<kBits>::kNext[nibble(kBits * i + Trellis<kBits>::kAhead)];
      EXPECT_EQ(search.Point(i), static_cast<float>(point)) << i;
      const auto at = static_cast<size_t>(i);
      double target = p.x[at];
      for (int j = 0; with_feedback && j < i; ++j)
        target += p.feedback[at * kRing + static_cast<size_t>(j)] * e[j];
      e[i] = static_cast<double>(p.own[at]) - point;
      error += p.w[at] * (target - point) * (target - point);
    }
    EXPECT_NEAR(said, error, 1e-3 * error) << with_feedback;
  }
}

// Whoever knows how errors are fed back leaves less than who rounds without.
TYPED_TEST(RingSearchTest, FeedbackPays) {
  constexpr int kBits = TypeParam::kBits;
  double with = 0, without = 0;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Problem<kBits> p(100 + seed, 0);
    RingSearch<kBits, 8> search;
    with += search.Find(p.x.data(), p.w.data(), p.own.data(), p.Feedback());
    search.Find(p.x.data(), p.w.data());
    float e[kRing];
    for (int i = 0; i < kRing; ++i) {
      const auto at = static_cast<size_t>(i);
      e[i] = p.own[at] - search.Point(i);
      float moved = e[i];
      for (int j = 0; j < i; ++j) moved += p.feedback[at * kRing + static_cast<size_t>(j)] * e[j];
      without += p.w[at] * moved * moved;
    }
  }
  EXPECT_LT(with, 0.8 * without);
}

TEST(TrellisScales, AreFoundAgain) {
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(TrellisCode(TrellisScale(static_cast<uint8_t>(code))), code);
  }
  EXPECT_EQ(TrellisCode(0), 0);
  EXPECT_EQ(TrellisCode(1e9f), 255);
}

}  // namespace
}  // namespace thimble
