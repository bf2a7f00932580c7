// A matrix as GPTQ, AWQ and compressed-tensors store it: integers of a few bits, and a scale and a zero for
// each row and group of columns (docs/formats/quantized_checkpoints.md).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/tensor_table.h"

namespace thimble {

// Unsigned integers in the words of a tensor: those of one line follow each other bit by bit, the low bits
// first.
struct BitGrid {
  const uint8_t* data = nullptr;  // little-endian words, not aligned
  int bits = 0;
  int word_bits = 32;            // or 8, for integers of 8 bits
  int64_t line_step = 0;         // words from a line to the next
  int64_t word_step = 0;         // words from a line's word to its next
  bool interleaved = false;      // AWQ: a word's integers stand in the order 0 2 4 6 1 3 5 7
  bool twos_complement = false;  // signed; they come out with 128 added

  int At(int64_t line, int64_t i) const;
};

// Stands for the numbers scale * (code - zero). Points into the checkpoint's tensors.
struct CodedMatrix {
  std::string name;    // of the matrix that it stands for: "model.layers.0.mlp.up_proj.weight"
  std::string format;  // "GPTQ"
  int bits = 0;
  int64_t n_out = 0, n_in = 0, n_groups = 0;
  std::vector<int32_t> group_of;   // [n_in], each below n_groups
  BitGrid codes;                   // [n_out lines of n_in]
  bool lines_are_columns = false;  // codes is [n_in lines of n_out]
  BitGrid zeros;                   // [n_groups lines of n_out]; no data: all are the middle, 2^(bits - 1)
  int zero_shift = 0;              // added to what `zeros` holds, modulo 2^bits
  const uint8_t* scales = nullptr;
  WeightType scale_type = WeightType::kF16;  // F16, BF16 or F32
  int64_t scale_row_step = 0, scale_group_step = 0;
  uint64_t bytes = 0;  // of all its tensors

  float Scale(int64_t row, int64_t group) const;
  int Zero(int64_t row, int64_t group) const;
};

// What a coded matrix becomes.
struct ImportedTensor {
  std::string name, format;
  int bits = 0;
  WeightType type = WeightType::kF16;
  std::string_view loss;  // why no type of blocks says the same numbers; empty: `type` does
};

// The smallest of Q4_0, Q4_1, Q5_0 and Q8_0 that says the same numbers; else the scales' own type, in which
// each number is rounded as the checkpoint's own library rounds it. Errors: scales that are not finite, or
// numbers beyond the range of F16.
Result<ImportedTensor> ChooseImport(const CodedMatrix& matrix, const std::string& path);

// The matrix in a type that ChooseImport gave: [n_out] rows of RowBytes(type, n_in).
std::vector<uint8_t> UnpackMatrix(const CodedMatrix& matrix, WeightType type);

// A sentence for each kind: "14 GPTQ matrices of 4 bits are read as Q4_0, exactly".
std::vector<std::string> DescribeImport(std::span<const ImportedTensor> tensors);

}  // namespace thimble
