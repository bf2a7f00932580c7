// Packed bit fields of the blocks. In planes of kBits x kStride, a run of kStride bytes holds 8 / kBits
// planes of kStride values: first those in the lowest bits of each byte, then those in the next bits, ...
#pragma once

#include <cstdint>
#include <cstring>

namespace thimble {

// q[i] |= field i << shift, for n fields.
template <int kBits, int kStride>
void UnpackPlanes(const uint8_t* src, int n, uint8_t* q, int shift = 0) {
  constexpr int kRun = kStride * 8 / kBits;
  constexpr uint8_t kMask = (1 << kBits) - 1;
  for (int base = 0; base < n; base += kRun, src += kStride, q += kRun) {
    for (int i = 0; i < kRun; ++i) q[i] |= ((src[i % kStride] >> (i / kStride * kBits)) & kMask) << shift;
  }
}

// Field i = the low bits of q[i] >> shift, for n fields. dst starts as zeros.
template <int kBits, int kStride>
void PackPlanes(const uint8_t* q, int n, uint8_t* dst, int shift = 0) {
  constexpr int kPlanes = 8 / kBits;
  constexpr uint8_t kMask = (1 << kBits) - 1;
  for (int base = 0; base < n; base += kPlanes * kStride, dst += kStride, q += kPlanes * kStride) {
    if constexpr (kBits == 1 &&
                  kStride == 1) {  // the product gathers the bytes' lowest bits in its highest byte
      uint64_t bits;
      memcpy(&bits, q, sizeof(bits));
      *dst |= static_cast<uint8_t>((bits >> shift & 0x0101010101010101) * 0x0102040810204080 >> 56);
      continue;
    }
    uint8_t bytes[kStride];
    memcpy(bytes, dst, sizeof(bytes));
    for (int plane = 0; plane < kPlanes; ++plane) {
      for (int i = 0; i < kStride; ++i) {
        bytes[i] |= static_cast<uint8_t>(((q[plane * kStride + i] >> shift) & kMask) << (plane * kBits));
      }
    }
    memcpy(dst, bytes, sizeof(bytes));
  }
}

// The eight 6-bit scales and minimums of Q4_K and Q5_K in 12 bytes: the first four of each in the low bits of
// bytes 0..3 and 4..7; the last four with their low nibbles in bytes 8..11 and their top bits above the first
// four.
inline void UnpackScaleMins(const uint8_t src[12], uint8_t scales[8], uint8_t mins[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = src[i] & 63;
    mins[i] = src[i + 4] & 63;
    scales[i + 4] = (src[i + 8] & 15) | (src[i] >> 6) << 4;
    mins[i + 4] = (src[i + 8] >> 4) | (src[i + 4] >> 6) << 4;
  }
}

inline void PackScaleMins(const uint8_t scales[8], const uint8_t mins[8], uint8_t dst[12]) {
  for (int i = 0; i < 4; ++i) {
    dst[i] = scales[i] | (scales[i + 4] >> 4) << 6;
    dst[i + 4] = mins[i] | (mins[i + 4] >> 4) << 6;
    dst[i + 8] = (scales[i + 4] & 15) | (mins[i + 4] & 15) << 4;
  }
}

}  // namespace thimble
