// What every operation is handed: kernels, threads and, when training, the tape; and what longer work may
// share.
#pragma once

#include "base/ranks.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "ops/tensor.h"

namespace thimble {

// How a product with a quantized weight is computed.
enum class Compute {
  kF32,  // weights decoded to F32, activations in F32
  // Weights decoded to BF16, activations and gradients rounded to it, sums in F32; in F32 where the kernels
  // have no BF16 products. Takes the time of decoding the weights, so it pays for many rows. The products of
  // attention over a batch are BF16, too.
  kBf16,
  // What is deployed: activations rounded to int8 per block of 32 for quantized weights and, where the
  // processor gains by it, to BF16 for BF16 weights and to blocks of 14-bit integers for F16 weights.
  kInt8,
};

constexpr const char* Name(Compute compute) {
  return compute == Compute::kF32 ? "f32" : compute == Compute::kBf16 ? "bf16" : "int8";
}

struct Context {
  ThreadPool& pool;
  const KernelTable& kernels = Kernels();
  Compute compute = Compute::kInt8;
  // Whether gradients of an integer product's input are integer products too, which is faster: with the
  // transposed weight, packed as Q8_0 at its first use.
  bool integer_gradients = false;
  Tape* tape = nullptr;      // set while training
  Ranks& ranks = OneRank();  // of a job that several processes share

  bool Records(std::initializer_list<Tensor> inputs) const {
    if (tape == nullptr) return false;
    for (const Tensor& t : inputs) {
      if (t && t.requires_grad()) return true;
    }
    return false;
  }
};

}  // namespace thimble
