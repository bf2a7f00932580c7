#include "formats/coded_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "codec/blocks.h"

namespace thimble {
namespace {

constexpr int64_t kBlock = 32;  // weights in a block of each type that ChooseImport may choose
constexpr float kMaxHalf = 65504.0f;

// Where a word of AWQ's holds its i-th integer (AutoAWQ, packing_utils.py, AWQ_REVERSE_ORDER).
constexpr int kInterleaved[8] = {0, 4, 1, 5, 2, 6, 3, 7};

bool IsHalf(float x) {
  return HalfToFloat(FloatToHalf(x)) == x;
}

// Why the columns of a block are not all in one group; empty if they are.
std::string_view BlockLoss(const CodedMatrix& m) {
  bool whole = m.n_in % kBlock == 0;
  for (int64_t j = 0; whole && j < m.n_in; ++j) {
    whole = m.group_of[static_cast<size_t>(j)] == m.group_of[static_cast<size_t>(j / kBlock * kBlock)];
  }
  if (whole) return "";
  return std::is_sorted(m.group_of.begin(), m.group_of.end())
             ? "the groups are not whole blocks of 32 columns"
             : "the columns of a group are not together (g_idx), for which GGUF has no word";
}

struct ScaleSurvey {
  float largest = 0;                // magnitude
  bool finite = true, half = true;  // all scales are (F16 numbers)
  bool half_minimums = true;        // all -zero * scale are F16 numbers
  int least_zero = 0, largest_zero = 0;
};

ScaleSurvey Survey(const CodedMatrix& m) {
  ScaleSurvey s{.least_zero = m.Zero(0, 0), .largest_zero = m.Zero(0, 0)};
  for (int64_t row = 0; row < m.n_out; ++row) {
    for (int64_t group = 0; group < m.n_groups; ++group) {
      const float scale = m.Scale(row, group);
      const int zero = m.Zero(row, group);
      s.finite = s.finite && std::isfinite(scale);
      s.largest = std::max(s.largest, std::abs(scale));
      s.half = s.half && IsHalf(scale);
      s.half_minimums = s.half_minimums && IsHalf(scale * static_cast<float>(zero));
      s.least_zero = std::min(s.least_zero, zero);
      s.largest_zero = std::max(s.largest_zero, zero);
    }
  }
  return s;
}

// One block: 32 codes, each with `zero` taken off where the type has no minimum of its own.
void PackBlock(const int* codes, int zero, float scale, BlockQ4_0* out) {
  out->d = FloatToHalf(scale);
  const auto q = [&](int i) { return static_cast<unsigned>(codes[i] - zero + 8); };
  for (int i = 0; i < 16; ++i) out->qs[i] = static_cast<uint8_t>(q(i) | q(i + 16) << 4);
}

void PackBlock(const int* codes, int zero, float scale, BlockQ4_1* out) {
  out->d = FloatToHalf(scale);
  out->m = FloatToHalf(-scale * static_cast<float>(zero));
  for (int i = 0; i < 16; ++i) out->qs[i] = static_cast<uint8_t>(codes[i] | codes[i + 16] << 4);
}

void PackBlock(const int* codes, int zero, float scale, BlockQ5_0* out) {
  out->d = FloatToHalf(scale);
  const auto q = [&](int i) { return static_cast<unsigned>(codes[i] - zero + 16); };
  uint32_t high = 0;
  for (int i = 0; i < 16; ++i) out->qs[i] = static_cast<uint8_t>((q(i) & 15) | (q(i + 16) & 15) << 4);
  for (int i = 0; i < 32; ++i) high |= (q(i) >> 4) << i;
  std::memcpy(out->qh, &high, sizeof(high));
}

void PackBlock(const int* codes, int zero, float scale, BlockQ8_0* out) {
  out->d = FloatToHalf(scale);
  for (int i = 0; i < 32; ++i) out->qs[i] = static_cast<int8_t>(codes[i] - zero);
}

void ReadCodes(const CodedMatrix& m, int64_t row, int* codes) {
  for (int64_t j = 0; j < m.n_in; ++j) {
    codes[j] = m.lines_are_columns ? m.codes.At(j, row) : m.codes.At(row, j);
  }
}

void PackNumbers(const CodedMatrix& m, int64_t row, const int* codes, uint8_t* out) {
  const size_t size = RowBytes(m.scale_type, 1);
  for (int64_t j = 0; j < m.n_in; ++j) {
    const int group = m.group_of[static_cast<size_t>(j)];
    const float x = m.Scale(row, group) * static_cast<float>(codes[j] - m.Zero(row, group));
    const uint16_t half = m.scale_type == WeightType::kF16 ? FloatToHalf(x) : FloatToBf16(x);
    std::memcpy(out + static_cast<size_t>(j) * size,
                m.scale_type == WeightType::kF32 ? static_cast<const void*>(&x) : &half, size);
  }
}

}  // namespace

int BitGrid::At(int64_t line, int64_t i) const {
  const int64_t at = bits * (interleaved ? (i & ~int64_t{7}) + kInterleaved[i & 7] : i);
  const int64_t word = line * line_step + at / word_bits * word_step;
  const int shift = static_cast<int>(at % word_bits);
  if (word_bits == 8) return data[word] ^ (twos_complement ? 0x80 : 0);
  const auto load = [this](int64_t w) {
    uint32_t value;
    std::memcpy(&value, data + 4 * w, sizeof(value));
    return value;
  };
  uint32_t value = load(word) >> shift;
  if (shift + bits > 32) value |= load(word + word_step) << (32 - shift);
  return static_cast<int>(value & ((1u << bits) - 1));
}

float CodedMatrix::Scale(int64_t row, int64_t group) const {
  const int64_t at = row * scale_row_step + group * scale_group_step;
  if (scale_type == WeightType::kF32) {
    float x;
    std::memcpy(&x, scales + 4 * at, sizeof(x));
    return x;
  }
  uint16_t half;
  std::memcpy(&half, scales + 2 * at, sizeof(half));
  return scale_type == WeightType::kF16 ? HalfToFloat(half) : Bf16ToFloat(half);
}

int CodedMatrix::Zero(int64_t row, int64_t group) const {
  if (zeros.data == nullptr) return 1 << (bits - 1);
  return (zeros.At(group, row) + zero_shift) & ((1 << bits) - 1);
}

Result<ImportedTensor> ChooseImport(const CodedMatrix& m, const std::string& path) {
  ImportedTensor out{.name = m.name, .format = m.format, .bits = m.bits, .type = m.scale_type};
  const ScaleSurvey s = Survey(m);
  if (!s.finite) {
    return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has a scale that is not finite", path, m.name);
  }
  const int least = -s.largest_zero, largest = (1 << m.bits) - 1 - s.least_zero;  // of code - zero
  out.loss = BlockLoss(m);
  if (!out.loss.empty()) {
    // The numbers themselves.
  } else if (!s.half) {
    out.loss = "the scales are not all F16 numbers";
  } else if (least >= -8 && largest <= 7) {
    out.type = WeightType::kQ4_0;
  } else if (m.bits <= 4 && s.half_minimums) {
    out.type = WeightType::kQ4_1;
  } else if (least >= -16 && largest <= 15) {
    out.type = WeightType::kQ5_0;
  } else if (least >= -128 && largest <= 127) {
    out.type = WeightType::kQ8_0;
  } else {
    out.loss = "GGUF has no 8 bits with a zero of their own";
  }
  if (out.type == WeightType::kF16 && s.largest * static_cast<float>(std::max(-least, largest)) > kMaxHalf) {
    return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' has numbers beyond the range of F16", path,
                     m.name);
  }
  return out;
}

std::vector<uint8_t> UnpackMatrix(const CodedMatrix& m, WeightType type) {
  const size_t row_bytes = RowBytes(type, m.n_in);
  std::vector<uint8_t> out(static_cast<size_t>(m.n_out) * row_bytes);
  std::vector<int> codes(static_cast<size_t>(m.n_in));
  for (int64_t row = 0; row < m.n_out; ++row) {
    uint8_t* bytes = out.data() + static_cast<size_t>(row) * row_bytes;
    ReadCodes(m, row, codes.data());
    if (!Info(type).quantized) {
      PackNumbers(m, row, codes.data(), bytes);
      continue;
    }
    for (int64_t j = 0; j < m.n_in; j += kBlock) {
      const int group = m.group_of[static_cast<size_t>(j)];
      const auto pack = [&]<typename Block>(Block block) {
        PackBlock(codes.data() + j, m.Zero(row, group), m.Scale(row, group), &block);
        std::memcpy(bytes + static_cast<size_t>(j / kBlock) * sizeof(Block), &block, sizeof(Block));
      };
      switch (type) {
        case WeightType::kQ4_0:
          pack(BlockQ4_0{});
          break;
        case WeightType::kQ4_1:
          pack(BlockQ4_1{});
          break;
        case WeightType::kQ5_0:
          pack(BlockQ5_0{});
          break;
        case WeightType::kQ8_0:
          pack(BlockQ8_0{});
          break;
        default:
          CHECK(false);  // ChooseImport gives no other
      }
    }
  }
  return out;
}

std::vector<std::string> DescribeImport(std::span<const ImportedTensor> tensors) {
  std::vector<std::pair<ImportedTensor, int>> kinds;
  for (const ImportedTensor& t : tensors) {
    const auto same = [&](const auto& kind) {
      const ImportedTensor& k = kind.first;
      return k.format == t.format && k.bits == t.bits && k.type == t.type && k.loss == t.loss;
    };
    const auto kind = std::find_if(kinds.begin(), kinds.end(), same);
    if (kind == kinds.end()) {
      kinds.emplace_back(t, 1);
    } else {
      ++kind->second;
    }
  }
  std::vector<std::string> lines;
  for (const auto& [t, n] : kinds) {
    const std::string what = n == 1 ? fmt::format("'{}' ({}, {} bits) is", t.name, t.format, t.bits)
                                    : fmt::format("{} {} matrices of {} bits are", n, t.format, t.bits);
    lines.push_back(t.loss.empty() ? fmt::format("{} read as {}, exactly", what, Name(t.type))
                                   : fmt::format("{} read as {}, rounded: {}", what, Name(t.type), t.loss));
  }
  return lines;
}

}  // namespace thimble
