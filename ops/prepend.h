// What stands before every sequence of a batch: virtual tokens, or their keys and values.
#pragma once

#include <span>

#include "ops/context.h"

namespace thimble {

// x [sum of lengths, cols] with the columns [first_column, first_column + cols) of `head` [n, ...] before
// each sequence: [sum of (n + length), cols].
Tensor Prepend(const Context& ctx, const Tensor& x, std::span<const int64_t> lengths, const Tensor& head,
               int64_t first_column = 0);
// The inverse for x [sum of (n + length), cols]: without the n rows before each sequence.
Tensor DropPrepended(const Context& ctx, const Tensor& x, std::span<const int64_t> lengths, int64_t n);

}  // namespace thimble
