// The table of kernels, one per tier (ISA). Raw pointers and sizes; single-threaded; no allocation.
// A kernel unit includes only intrinsics, <stdint.h>, <stddef.h>, <math.h>, <string.h> and this folder's POD
// headers, so that no inline std:: function is compiled with flags that an older CPU cannot run.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace thimble {

// 32 activations as int8: x[i] ~ scale * q[i]. The sums are what weights with an offset or a minimum need: of
// the first half, of the second half, and of both.
struct alignas(64) ActivationBlock {
  float scale;              // max|x| / 127
  float scaled_sums[3];     // scale * sum of q
  int32_t negated_sums[3];  // -sum of q
  int32_t unused;           // 0
  int8_t q[32];
};
static_assert(sizeof(ActivationBlock) == 64, "the kernels rely on this layout");

// The products of up to this many rows are computed as they are for one row, bit for bit: what is written
// does not depend on what is computed beside it. Integer products hold to that for any number of rows.
constexpr int64_t kFewRows = 16;

// Keys that attention reads at a time. A block of one head's keys is stored transposed: number p of all keys,
// then number p + 1; in a quantized type, for each 32 numbers, the F16 scales of all keys and then the codes
// in this order, where a byte of Q4_0 holds numbers p and p + 16 (low nibble first), as in its usual block.
constexpr int kKeyBlock = 64;

// Of a block's keys, one query sees [begin, end).
struct VisibleKeys {
  int32_t begin, end;
};

// 32 activations as integers of 13 bits and a sign: x[i] ~ scale * q[i].
struct alignas(16) ActivationBlock16 {
  int16_t q[32];
  float scale;  // max|x| / 8191
};
static_assert(sizeof(ActivationBlock16) == 80, "the kernels rely on this layout");

// Rows that are rounded at a time, a lane each.
constexpr int kRoundRows = 32;

// The points onto which weights are rounded: `n_values` ascending values, or, where that is 0, the integers
// lowest..highest.
struct RoundGrid {
  float lowest, highest;
  const float* values;
  int n_values;
};

// The part of a factor H = C C^T (C upper triangular) of a product's Hessian that stands for a run of
// columns.
struct RoundFactor {
  const float* feedback;  // row i, column j < i: C[j][i] / C[i][i]; the rest is not read
  int64_t ld;             // between rows of `feedback`
  const float* diagonal;  // C[i][i]
};

constexpr int kMaxWeightTypes = 64;  // indices are GGUF's type numbers

struct KernelTable {
  const char* name;  // "ref", "avx2", "avx_vnni", "avx512", "avx512_vbmi", "avx512_bf16", "amx", "neon",
                     // "neon_dotprod", "neon_i8mm"

  // --- F32 products. Row-major; ld* is the distance between rows in floats. `accumulate` adds to c.
  // c[m,n] = a[m,k] * b[n,k]^T
  void (*gemm_nt)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool accumulate);
  // c[m,n] = a[m,k] * b[k,n]
  void (*gemm_nn)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool accumulate);
  // c[m,n] = a[k,m]^T * b[k,n]
  void (*gemm_tn)(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc, bool accumulate);

  // --- Weight rows to F32 (bit-equal to codec's DecodeRow). Null entries: type not decodable.
  void (*decode_row[kMaxWeightTypes])(const void* src, float* dst, int64_t n);

  // --- Integer products. x -> blocks; n is a multiple of 32.
  void (*quantize_activations)(const float* x, ActivationBlock* blocks, int64_t n);
  // Weight rows are packed for them: a group of `packed_rows` rows is interleaved so that a vector holds the
  // same columns of each. Null entries: the type has no integer product; decode instead.
  int packed_rows;
  // Bytes of a packed group of k columns, a multiple of 64.
  size_t (*packed_bytes[kMaxWeightTypes])(int64_t k);
  // Packs up to `packed_rows` rows, `w_stride` bytes apart, to an address that is a multiple of 64.
  void (*pack_rows[kMaxWeightTypes])(int64_t n_rows, int64_t k, const void* w, size_t w_stride, void* packed);
  // y[i * ldy + j] = dot(w row j, x row i), for n_rows packed weight rows of k columns and m activation rows
  // that are `ldx` blocks apart (best an odd number: they share a cache). A product does not depend on m.
  void (*matmul_q[kMaxWeightTypes])(int64_t m, int64_t n_rows, int64_t k, const void* packed,
                                    const ActivationBlock* x, int64_t ldx, float* y, int64_t ldy);

  // --- BF16 products, where the processor has an instruction for them; otherwise null, and BF16 weights are
  // decoded. Rows are packed as above, with k even.
  void (*round_activations)(const float* x, uint16_t* y, int64_t n);  // to the nearest BF16, ties to even
  void (*matmul_bf16)(int64_t m, int64_t n_rows, int64_t k, const void* packed, const uint16_t* x,
                      int64_t ldx, float* y, int64_t ldy, bool accumulate);
  // The same packing from F32, rounded to BF16: of n_rows <= packed_rows rows; or of the transposed matrix,
  // where rows [first, first + n) of w[., n_columns] become these columns of packed groups that are
  // `group_bytes` apart (`first` and n are even).
  void (*pack_rows_bf16)(int64_t n_rows, int64_t k, const float* w, int64_t ldw, void* packed);
  void (*pack_columns_bf16)(int64_t first, int64_t n, int64_t n_columns, const float* w, int64_t ldw,
                            void* packed, size_t group_bytes);

  // --- F16 products by 16-bit integers, where that is faster than FMA; otherwise null, and F16 weights are
  // decoded. Rows are packed as above, with k a multiple of 32.
  void (*quantize_activations16)(const float* x, ActivationBlock16* blocks, int64_t n);
  void (*matmul_f16)(int64_t m, int64_t n_rows, int64_t k, const void* packed, const ActivationBlock16* x,
                     int64_t ldx, float* y, int64_t ldy);

  // --- Rows of F32.
  float (*dot)(const float* a, const float* b, int64_t n);
  void (*axpy)(float alpha, const float* x, float* y, int64_t n);  // y += alpha * x
  // y = x / sqrt(mean(x^2) + eps) * weight
  void (*rms_norm)(const float* x, const float* weight, float eps, float* y, int64_t n);
  // The gradient of its input: with s = 1 / sqrt(mean(x^2) + eps) and g = dy * weight,
  // dx += s * (g - x * s^2 * mean(g * x)).
  void (*rms_norm_backward)(const float* x, const float* weight, float eps, const float* dy, float* dx,
                            int64_t n);
  // One head's rotary embedding, in place: x[i] = x[i] * cos[i] + direction * x[p] * sin[i], where i's
  // partner p is n / 2 away, or its neighbour. n is even.
  void (*rotate_halves)(float* x, const float* cos, const float* sin, float direction, int64_t n);
  void (*rotate_neighbours)(float* x, const float* cos, const float* sin, float direction, int64_t n);
  // Numerically stable softmax in place; returns log(sum(exp(x))) of the input.
  float (*softmax)(float* x, int64_t n);
  void (*silu_mul)(const float* gate, const float* up, float* y, int64_t n);  // y = gate * sigmoid(gate) * up
  // y = gelu_tanh(gate) * up, gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  void (*gelu_mul)(const float* gate, const float* up, float* y, int64_t n);
  // Their gradients: dgate += dy * up * slope(gate), dup += dy * activation(gate).
  void (*silu_mul_backward)(const float* gate, const float* up, const float* dy, float* dgate, float* dup,
                            int64_t n);
  void (*gelu_mul_backward)(const float* gate, const float* up, const float* dy, float* dgate, float* dup,
                            int64_t n);
  // The same of factors in BF16; what the gradients held before is written over.
  void (*silu_mul_bf16)(const uint16_t* gate, const uint16_t* up, float* y, int64_t n);
  void (*gelu_mul_bf16)(const uint16_t* gate, const uint16_t* up, float* y, int64_t n);
  void (*silu_mul_bf16_backward)(const uint16_t* gate, const uint16_t* up, const float* dy, float* dgate,
                                 float* dup, int64_t n);
  void (*gelu_mul_bf16_backward)(const uint16_t* gate, const uint16_t* up, const float* dy, float* dgate,
                                 float* dup, int64_t n);

  // --- Attention with its keys and values in a cache. Null entries: not a type for caches.
  // A row onto the type, in one pass: the scale is set by the block's largest number (codec's EncodeRow
  // searches for a better one). What F16 cannot hold becomes its largest number; NaN stays NaN. n is a
  // multiple of the type's block.
  void (*encode_row[kMaxWeightTypes])(const float* x, void* dst, int64_t n);
  // A block of keys of one head to F32 [head_dim, kKeyBlock].
  void (*decode_keys[kMaxWeightTypes])(const void* block, float* dst, int64_t head_dim);
  // A step of the online softmax (Milakov & Gimelshein 2018) for `rows` queries. scores [rows, kKeyBlock]
  // become exp(score - max), 0 where they are not seen; max and sum [rows] (at first -infinity and 0) are
  // those of all steps so far, and out [rows, n] is scaled from the old max to the new one. Row r's results
  // do not depend on the other rows.
  void (*softmax_step)(int64_t rows, float* scores, const VisibleKeys* visible, float* max, float* sum,
                       float* out, int64_t n);
  // The gradient of a softmax of which log_sums [rows] are known. scores [rows, kKeyBlock] become the weights
  // P = exp(score - log_sum), and dscores, at first the gradients dP of the weights, P * (dP - sum), with
  // sums [rows] those of dP * P over all keys. Both are 0 where keys are not seen.
  void (*softmax_gradient)(int64_t rows, float* scores, float* dscores, const VisibleKeys* visible,
                           const float* log_sums, const float* sums);

  // --- Rounding of weights with feedback (LDLQ: Chee et al. 2023, algorithm 3; the same numbers as GPTQ's,
  // Frantar et al. 2023). A block has n columns of kRoundRows rows, column by column: w the weights, x the
  // same with what the errors of earlier blocks add. Column after column, with e[j] = w[j] - (scale *
  // points[j] + min) the errors so far:
  //   t = x[i] + sum over j < i of e[j] * feedback[i][j], points[i] = the point nearest to (t - min) / scale;
  // cost = sum over i of (diagonal[i] * (t - scale * points[i] - min))^2. A scale of 0 gives the point
  // nearest to 0. scale, min, cost: [kRoundRows]; points, errors: [n, kRoundRows].
  void (*round_block)(const RoundGrid* grid, int n, const float* x, const float* w, const RoundFactor* factor,
                      const float* scale, const float* min, float* points, float* errors, float* cost);
  // y[i] = diagonal[i] * (x[i] + sum over j < i of w[j] * feedback[i][j]): coordinates in which the cost is a
  // plain sum of squares.
  void (*whiten_block)(int n, const float* x, const float* w, const RoundFactor* factor, float* y);

  // --- For benchmarks: runs the tier's densest int8 multiply-add on registers alone, `rounds` times, and
  // returns how many multiply-adds that were: what matmul_q could do at best. Null: not known for this tier.
  int64_t (*int8_peak)(int64_t rounds);
};

// The best tier that this CPU runs, or the one that the environment variable THIMBLE_ISA names. An unknown or
// unsupported name aborts at first use with a message: apps validate it first with FindKernels.
const KernelTable& Kernels();
// nullptr if the name is unknown or the CPU lacks the instructions.
const KernelTable* FindKernels(const char* name);
// All tiers that this CPU runs, best first; returns how many.
int SupportedKernels(const KernelTable** tables, int max);

}  // namespace thimble
