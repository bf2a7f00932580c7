// LoRA adapters: from and to PEFT folders and GGUF files, in the row order of the model that they are bound
// to.
#pragma once

#include <functional>
#include <string>

#include "formats/peft_adapter.h"
#include "model/model.h"

namespace thimble {

// Reads a PEFT folder of any method of train/methods/ or a GGUF LoRA file. Every tensor
// must have a place in `model` and its shape; anything else (biases, embeddings) is refused with a message
// that names it.
Result<Adapter> LoadAdapter(const std::string& path, const Model& model);
// Error kInvalidArgument: what stands before a text is there or not, and cannot be scaled.
Status CheckScale(const Adapter& adapter, float scale);

// Of LoRA and rsLoRA; kUnsupported for other adapters. `config` describes the modules as PEFT wants them; its
// scale must be what the adapter's modules carry.
Status SavePeftAdapter(const Adapter& adapter, const Model& model, const PeftLoraConfig& config,
                       const std::string& directory);
// GGUF has one alpha per file and no rsLoRA: each module's scale is folded into B, and alpha = 0 says so.
// In a quantized type, B's rows are the outputs of one rank each, where the rank is no multiple of its block:
// a tensor of our own (docs/formats/gguf.md).
Status SaveGgufAdapter(const Adapter& adapter, const Model& model, const std::string& path,
                       WeightType type = WeightType::kF32);

// Hugging Face's name of a linear layer or norm: "model.layers.0.self_attn.q_proj".
std::string HfModuleName(const ArchRow& arch, Slot slot, int64_t layer);
// "q_proj"
std::string ShortModuleName(const ArchRow& arch, Slot slot);

// VeRA's shared matrices, in Hugging Face's row order, cut to each module that has a rank_scale: A [r, most
// inputs], B [most outputs, r]. Modules of one shape share their copies.
void ShareVeraMatrices(const Model& model, const Tensor& a, const Tensor& b, Adapter& adapter);

// PEFT's name of the same: "base_model.model.model.layers.0.self_attn.q_proj".
std::string PeftModuleName(const ArchRow& arch, Slot slot, int64_t layer);

// What a norm's weights are more here than in Hugging Face's files: 1 for Gemma's.
float HfNormOffset(const ArchRow& arch, Slot norm);

// Row i of what a PEFT folder holds for a linear layer's outputs is row order(i) of the bound model's.
using RowOrder = std::function<int64_t(int64_t)>;
RowOrder PeftRowOrder(const Model& model, Slot slot);
// Likewise of the numbers of Adapter::prefix, whose keys stand in the order of the key matrix's rows.
RowOrder PeftPrefixOrder(const Model& model);

// New row i of a matrix permuted for interleaved RoPE is old row PermutedRow(i, head_dim) (llama.cpp's
// convert, LlamaModel.permute).
int64_t PermutedRow(int64_t row, int64_t head_dim);

}  // namespace thimble
