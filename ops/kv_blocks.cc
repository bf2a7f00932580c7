#include "ops/kv_blocks.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace thimble {
namespace {

constexpr int64_t kGroup = 32;  // numbers of a quantized block

template <typename Code>
void Scatter(const uint8_t* row, int64_t n, int64_t column, uint8_t* block) {
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(block + static_cast<size_t>(i * kKeyBlock + column) * sizeof(Code),
                row + static_cast<size_t>(i) * sizeof(Code), sizeof(Code));
  }
}

// An encoded key becomes a column of its block.
void StoreKey(WeightType type, const uint8_t* row, int64_t head_dim, int64_t column, uint8_t* block) {
  if (type == WeightType::kF32) return Scatter<float>(row, head_dim, column, block);
  if (type == WeightType::kF16) return Scatter<uint16_t>(row, head_dim, column, block);
  const int64_t codes = type == WeightType::kQ8_0 ? kGroup : kGroup / 2;  // bytes
  for (int64_t i = 0; i < head_dim; i += kGroup) {
    Scatter<uint16_t>(row, 1, column, block);
    Scatter<uint8_t>(row + 2, codes, column, block + 2 * kKeyBlock);
    row += 2 + codes;
    block += (2 + codes) * kKeyBlock;
  }
}

}  // namespace

Status KvFormat::Check() const {
  for (const WeightType type : {types.k, types.v}) {
    if (Kernels().encode_row[static_cast<size_t>(type)] == nullptr) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{} is not a type for the KV cache; take F32, F16, Q8_0 or Q4_0", Name(type));
    }
    if (!RowFits(type, head_dim)) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          "the model's heads of {} numbers cannot be cached as {}, whose blocks hold {}; take F16 or F32",
          head_dim, Name(type), Info(type).block_size);
    }
  }
  return {};
}

void StoreKeysAndValues(const Context& ctx, const Tensor& k, const Tensor& v, int64_t row, int64_t n,
                        const KvBlocks& to, int64_t position) {
  const int64_t heads = to.format.n_kv_heads, head_dim = to.format.head_dim;
  const auto [k_type, v_type] = to.format.types;
  CHECK(k.cols() == heads * head_dim && v.cols() == k.cols() && row + n <= k.rows());
  if (n == 0) return;
  const auto encode_key = ctx.kernels.encode_row[static_cast<size_t>(k_type)];
  const auto encode_value = ctx.kernels.encode_row[static_cast<size_t>(v_type)];
  const size_t value_row = RowBytes(v_type, head_dim);
  const int64_t first = position / kKeyBlock, last = (position + n - 1) / kKeyBlock;
  const int64_t items = (last - first + 1) * heads;
  const int64_t grain = n < kKeyBlock / 2 ? items : 1;  // a few tokens are not worth a second thread
  ctx.pool.ParallelFor(items, grain, [&](int64_t begin, int64_t end, int) {
    thread_local std::vector<uint8_t> encoded;
    encoded.resize(RowBytes(k_type, head_dim));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t block = first + item / heads, head = item % heads;
      const int64_t from = std::max(position, block * kKeyBlock);
      const int64_t until = std::min(position + n, (block + 1) * kKeyBlock);
      for (int64_t p = from; p < until; ++p) {
        const int64_t source = row + p - position, at = p % kKeyBlock;
        encode_key(k.row(source) + head * head_dim, encoded.data(), head_dim);
        StoreKey(k_type, encoded.data(), head_dim, at, to.keys(block, head));
        encode_value(v.row(source) + head * head_dim,
                     to.values(block, head) + static_cast<size_t>(at) * value_row, head_dim);
      }
    }
  });
}

}  // namespace thimble
