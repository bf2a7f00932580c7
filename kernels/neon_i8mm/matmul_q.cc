// NEON with SMMLA, compiled for ARMv8.2 with the dot product and int8 matrix extensions. One instruction
// multiplies 8 bytes of each of two weight rows with 8 of each of two activation rows, so that four sums of a
// block lie in one register, [w0 x0, w0 x1, w1 x0, w1 x1], and share the conversion, the scaling and the
// addition.
#define THIMBLE_TIER neon_i8mm
#include "kernels/neon/bytes.h"

#include "kernels/generic/matmul_q.inc"

namespace thimble {
namespace {

// Of two registers with a row each: the first halves, or the second halves.
THIMBLE_INLINE int8x16_t FirstHalves(uint8x16_t x, uint8x16_t y) {
  return AsSigned(vcombine_u8(vget_low_u8(x), vget_low_u8(y)));
}
THIMBLE_INLINE int8x16_t SecondHalves(uint8x16_t x, uint8x16_t y) {
  return AsSigned(vcombine_u8(vget_high_u8(x), vget_high_u8(y)));
}

// Two laid-out activation rows r and s become a pair, in place. Where the rows held 16 bytes each, x holds
// the first 8 of both and y the second 8. x->scale is [r, s, r, s] for each block, and the sums of the blocks
// are [r, s, r, s] for the first two blocks in x and for the others in y.
void PairUp(ActivationGroup* x, ActivationGroup* y) {
  for (int half = 0; half < 2; ++half) {
    for (int b = 0; b < 4; ++b) {
      int8_t *r = x->q[half] + 16 * b, *s = y->q[half] + 16 * b;
      const uint8x16_t of_r = LoadAs<uint8x16_t>(r), of_s = LoadAs<uint8x16_t>(s);
      vst1q_s8(r, FirstHalves(of_r, of_s));
      vst1q_s8(s, SecondHalves(of_r, of_s));
    }
    const Quad of_r = QuadLoad(x->sums[half]), of_s = QuadLoad(y->sums[half]);
    QuadStore(x->sums[half], vzip1q_f32(of_r, of_s));
    QuadStore(y->sums[half], vzip2q_f32(of_r, of_s));
  }
  for (int i = 1; i < 16; i += 2) x->scale[i] = y->scale[i];
}

// Four blocks of two weight rows: per block the integers of both, as SMMLA takes them, and their scales and
// minimums as [w0, w0, w1, w1], of the block or of its halves.
struct PairedGroup {
  int8x16_t bytes[4][4];
  float32x4_t scale[2][4];
  float32x4_t min[2][4];
};

THIMBLE_INLINE void PairLane(uint8x16_t first, uint8x16_t second, int8x16_t bytes[2]) {
  bytes[0] = FirstHalves(first, second);
  bytes[1] = SecondHalves(first, second);
}
THIMBLE_INLINE void PairQuads(Quad first, Quad second, float32x4_t pairs[4]) {
  const float32x4_t first_low = vzip1q_f32(first, first), first_high = vzip2q_f32(first, first);
  const float32x4_t second_low = vzip1q_f32(second, second), second_high = vzip2q_f32(second, second);
  pairs[0] = LowHalves(first_low, second_low);
  pairs[1] = HighHalves(first_low, second_low);
  pairs[2] = LowHalves(first_high, second_high);
  pairs[3] = HighHalves(first_high, second_high);
}

template <typename Type>
THIMBLE_INLINE void UnpackPair(const uint8_t* first, const uint8_t* second, int part, PairedGroup* pair) {
  Group w[2];
  Type::Unpack(first, part, &w[0]);
  Type::Unpack(second, part, &w[1]);
  if constexpr (Type::kOffset != 0) {
    THIMBLE_UNROLL
    for (int r = 0; r < 2; ++r) {
      w[r].lo = SubBytes(w[r].lo, Type::kOffset);
      w[r].hi = SubBytes(w[r].hi, Type::kOffset);
    }
  }
  PairLane(w[0].lo.a, w[1].lo.a, pair->bytes[0]);
  PairLane(w[0].lo.b, w[1].lo.b, pair->bytes[1]);
  PairLane(w[0].lo.c, w[1].lo.c, pair->bytes[2]);
  PairLane(w[0].lo.d, w[1].lo.d, pair->bytes[3]);
  PairLane(w[0].hi.a, w[1].hi.a, pair->bytes[0] + 2);
  PairLane(w[0].hi.b, w[1].hi.b, pair->bytes[1] + 2);
  PairLane(w[0].hi.c, w[1].hi.c, pair->bytes[2] + 2);
  PairLane(w[0].hi.d, w[1].hi.d, pair->bytes[3] + 2);
  THIMBLE_UNROLL
  for (int half = 0; half < (Type::kSplit ? 2 : 1); ++half) {
    PairQuads(w[0].scale[half], w[1].scale[half], pair->scale[half]);
    if (Type::kHasMin) PairQuads(w[0].min[half], w[1].min[half], pair->min[half]);
  }
}

// init + the products of one half of block b.
THIMBLE_INLINE int32x4_t MultiplyHalf(int32x4_t init, const int8x16_t w[2], const ActivationGroup& x,
                                      const ActivationGroup& y, int half, int b) {
  init = vmmlaq_s32(init, w[0], vld1q_s8(x.q[half] + 16 * b));
  return vmmlaq_s32(init, w[1], vld1q_s8(y.q[half] + 16 * b));
}

// acc += the products of block b; mins likewise, of the minimums.
template <typename Type>
THIMBLE_INLINE void MultiplyBlock(const PairedGroup& w, int b, const ActivationGroup& x,
                                  const ActivationGroup& y, float32x4_t* acc, float32x4_t* mins) {
  const float32x4_t x_scale = vld1q_f32(x.scale + 4 * b);
  const int32x4_t zero = vdupq_n_s32(0);
  const int32x4_t first = MultiplyHalf(zero, w.bytes[b], x, y, 0, b);
  if constexpr (Type::kSplit) {
    const int32x4_t second = MultiplyHalf(zero, w.bytes[b] + 2, x, y, 1, b);
    const float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(second), w.scale[1][b]);
    *acc = vfmaq_f32(*acc, vfmaq_f32(scaled, vcvtq_f32_s32(first), w.scale[0][b]), x_scale);
  } else {
    const int32x4_t both = MultiplyHalf(first, w.bytes[b] + 2, x, y, 1, b);
    *acc = vfmaq_f32(*acc, vcvtq_f32_s32(both), vmulq_f32(w.scale[0][b], x_scale));
  }
  if constexpr (Type::kHasMin) {
    THIMBLE_UNROLL
    for (int half = 0; half < (Type::kSplit ? 2 : 1); ++half) {
      const float32x2_t sums = vld1_f32((b < 2 ? x : y).sums[half] + b % 2 * 2);
      *mins = vfmaq_f32(*mins, w.min[half][b], vcombine_f32(sums, sums));
    }
  }
}

// y[i * ldy + r] (+)= weight row r * activation row i for one or two weight rows and kPairs pairs of
// activation rows.
template <typename Type, int kPairs>
void PairTile(Groups groups, int64_t w_rows, const uint8_t* w, size_t w_stride, const ActivationGroup* x,
              float* y, int64_t ldy, bool accumulate) {
  // A sum for each of the four blocks of a group, as the tiles of single rows have.
  float32x4_t acc[kPairs][4], mins[kPairs][4];
  THIMBLE_UNROLL
  for (int p = 0; p < kPairs; ++p) {
    THIMBLE_UNROLL
    for (int b = 0; b < 4; ++b) acc[p][b] = mins[p][b] = vdupq_n_f32(0.0f);
  }
  const int64_t count = groups.count();
  for (int64_t g = 0; g < count; ++g) {
    const int64_t block = groups.start(g);
    const uint8_t* first = w + block / Type::kUnitBlocks * Type::kUnitBytes;
    const uint8_t* second = w_rows == 2 ? first + w_stride : first;
    PairedGroup weights;
    UnpackPair<Type>(first, second, static_cast<int>(block % Type::kUnitBlocks) / 4, &weights);
    THIMBLE_UNROLL
    for (int b = 0; b < 4; ++b) {
      THIMBLE_UNROLL
      for (int p = 0; p < kPairs; ++p) {
        const ActivationGroup* pair = x + 2 * p * kMaxGroups + g;
        MultiplyBlock<Type>(weights, b, pair[0], pair[kMaxGroups], &acc[p][b], &mins[p][b]);
      }
    }
  }
  THIMBLE_UNROLL
  for (int p = 0; p < kPairs; ++p) {
    THIMBLE_UNROLL
    for (int b = 0; b < 4; ++b) {
      if (Type::kHasMin) acc[p][b] = vsubq_f32(acc[p][b], mins[p][b]);
    }
    float sums[4];
    QuadStore(sums, vaddq_f32(vaddq_f32(acc[p][0], acc[p][1]), vaddq_f32(acc[p][2], acc[p][3])));
    for (int64_t r = 0; r < w_rows; ++r) {
      for (int64_t i = 0; i < 2; ++i) {
        float* out = y + (2 * p + i) * ldy + r;
        *out = sums[2 * r + i] + (accumulate ? *out : 0.0f);
      }
    }
  }
}

// All weight rows against `m` <= kMaxRows laid-out activation rows, an even number.
template <typename Type>
void MultiplyPairs(Groups groups, int64_t m, int64_t n_rows, const uint8_t* w, size_t w_stride, float* y,
                   int64_t ldy, bool accumulate) {
  for (int64_t j = 0; j < n_rows; j += 2) {
    const int64_t w_rows = n_rows - j < 2 ? 1 : 2;
    const uint8_t* rows = w + static_cast<size_t>(j) * w_stride;
    int64_t i = 0;
    for (; i + 4 <= m; i += 4) {
      PairTile<Type, 2>(groups, w_rows, rows, w_stride, activations + i * kMaxGroups, y + i * ldy + j, ldy,
                        accumulate);
    }
    if (i < m) {
      PairTile<Type, 1>(groups, w_rows, rows, w_stride, activations + i * kMaxGroups, y + i * ldy + j, ldy,
                        accumulate);
    }
  }
}

// Rows that make no pair, and those too short for a group, are multiplied one by one.
template <typename Type>
void MatmulPairs(int64_t m, int64_t n_rows, int64_t k, const void* w, size_t w_stride,
                 const ActivationBlock* x, float* y, int64_t ldy) {
  constexpr int64_t kMaxBlocks = 4 * kMaxGroups;
  const int64_t n_blocks = k / 32;
  const int64_t paired = n_blocks < 4 ? 0 : m / 2 * 2;
  for (int64_t i = 0; i < paired; i += kMaxRows) {
    const int64_t rows = paired - i < kMaxRows ? paired - i : kMaxRows;
    Groups groups = {0, 0};
    for (; groups.first < n_blocks; groups.first += groups.blocks) {
      groups.blocks = n_blocks - groups.first < kMaxBlocks ? n_blocks - groups.first : kMaxBlocks;
      for (int64_t r = 0; r < rows; r += 2) {
        ActivationGroup *even = activations + r * kMaxGroups, *odd = even + kMaxGroups;
        LayOutRow<Type>(x + (i + r) * n_blocks, groups, even);
        LayOutRow<Type>(x + (i + r + 1) * n_blocks, groups, odd);
        for (int64_t g = 0; g < groups.count(); ++g) PairUp(even + g, odd + g);
      }
      MultiplyPairs<Type>(groups, rows, n_rows, static_cast<const uint8_t*>(w), w_stride, y + i * ldy, ldy,
                          groups.first > 0);
    }
  }
  if (paired < m)
    MatmulQ<Type>(m - paired, n_rows, k, w, w_stride, x + paired * n_blocks, y + paired * ldy, ldy);
}

template <typename Type>
struct FillPairsType {
  static void Set(KernelTable* table, int type) { table->matmul_q[type] = MatmulPairs<Type>; }
};

}  // namespace

namespace neon_i8mm {

void FillMatmulPairs(KernelTable* table) {
  FillTypes<FillPairsType>(table);
}

}  // namespace neon_i8mm
}  // namespace thimble
