// The trellis codes of T2 to T5 (docs/formats/native.md): trellis-coded quantization (Marcellin & Fischer
// 1990) with a sliding window (QTIP, Tseng et al. 2024) short enough that two lookups of 16 entries decode
// it.
#pragma once

#include <cstdint>

namespace thimble {

// 32 weights are kBits * 32 bits that close to a ring. Weight s of the ring is scale * (own[the 4 bits from
// bit kBits * s on] + next[the 4 bits from kAhead bits further on]). The tables were fitted to Gaussian
// weights (bench/trellis_tables.cc).
template <int kBits>
struct Trellis;

template <>
struct Trellis<2> {
  static constexpr int kAhead = 4;
  static constexpr float kDeviation = 1 / 0.02188f;  // of the weights that the tables fit best
  static constexpr int8_t kOwn[16] = {-34, -3, 38, 8, 31, -12, -2, -54, -19, 9, -51, 47, -27, 16, 57, -1};
  static constexpr int8_t kNext[16] = {-8, 69, 31, -39, 14, 22, -71, 6, 43, -9, -13, 2, -44, -41, -18, 48};
};

template <>
struct Trellis<3> {
  static constexpr int kAhead = 6;
  static constexpr float kDeviation = 1 / 0.02630f;
  static constexpr int8_t kOwn[16] = {31, 12, 9, -43, -7, -1, -25, 53, -21, 13, -8, -6, -56, -36, 24, 41};
  static constexpr int8_t kNext[16] = {-10, 63, -31, 34, 46, -1, 22, 27, 2, -13, -62, 14, -13, -28, 13, -42};
};

template <>
struct Trellis<4> {
  static constexpr int kAhead = 4;
  static constexpr float kDeviation = 1 / 0.02646f;
  static constexpr int8_t kOwn[16] = {-32, -82, 60, 31, -6, 23, 49, -14, 90, -23, 16, 40, -43, 1, -55, 9};
  static constexpr int8_t kNext[16] = {3, 11, 2, -34, -4, -23, -9, 18, -20, -41, 10, 23, -25, 36, -11, -15};
};

template <>
struct Trellis<5> {
  static constexpr int kAhead = 4;
  static constexpr float kDeviation = 1 / 0.03012f;
  static constexpr int8_t kOwn[16] = {28, -17, -56, 62, 22, -45, 16, -1, -6, -34, 11, 33, -28, 5, -22, -39};
  static constexpr int8_t kNext[16] = {26, -15, 7, 32, -20, 0, 5, -9, 20, -39, -64, -5, 57, 11, 15, 40};
};

constexpr int kRing = 32;  // weights

// The column of a ring's weight s: the ring goes through every fourth column, four times.
[[gnu::always_inline]] inline constexpr int RingColumn(int s) {
  return 4 * (s % 8) + s / 8;
}

// A scale is 4 bits of exponent and 4 of mantissa, from 2^-18 to 1.9375 * 2^-3: these, shifted and added to,
// are its F32.
constexpr int kScaleShift = 19;
constexpr uint32_t kScaleBase = uint32_t{109} << 23;
[[gnu::always_inline]] inline constexpr float TrellisScale(uint8_t code) {
  return __builtin_bit_cast(float, (static_cast<uint32_t>(code) << kScaleShift) + kScaleBase);
}

}  // namespace thimble
