// The keys and values of one layer as attention reads them: in blocks of kKeyBlock positions, per head, in
// any of the cache's types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "codec/types.h"
#include "ops/context.h"

namespace thimble {

// F32, F16, Q8_0 or Q4_0.
struct KvTypes {
  WeightType k = WeightType::kF16, v = WeightType::kF16;
};

// A block holds, for each kv head, its keys transposed (kernels.h: a query then meets kKeyBlock of them in
// one vector product, however few queries there are) and then, for each kv head, its values, a row per
// position.
struct KvFormat {
  KvTypes types;
  int64_t n_kv_heads = 1, head_dim = 1;

  // Whether the types are a cache's and head_dim is a multiple of their blocks.
  Status Check() const;
  size_t key_bytes() const { return RowBytes(types.k, head_dim) * kKeyBlock; }  // of one head
  size_t value_bytes() const { return RowBytes(types.v, head_dim) * kKeyBlock; }
  size_t block_bytes() const { return static_cast<size_t>(n_kv_heads) * (key_bytes() + value_bytes()); }
};

// Position p of the sequence is row p % kKeyBlock of block p / kKeyBlock, at blocks[...] + offset. Not owned.
struct KvBlocks {
  KvFormat format;
  std::span<uint8_t* const> blocks;
  size_t offset = 0;

  uint8_t* keys(int64_t block, int64_t head) const {
    return blocks[static_cast<size_t>(block)] + offset + static_cast<size_t>(head) * format.key_bytes();
  }
  uint8_t* values(int64_t block, int64_t head) const {
    return blocks[static_cast<size_t>(block)] + offset +
           static_cast<size_t>(format.n_kv_heads) * format.key_bytes() +
           static_cast<size_t>(head) * format.value_bytes();
  }
};

// Writes rows [row, row + n) of k and v [T, n_kv_heads * head_dim] to positions [position, position + n).
void StoreKeysAndValues(const Context& ctx, const Tensor& k, const Tensor& v, int64_t row, int64_t n,
                        const KvBlocks& to, int64_t position);

}  // namespace thimble
