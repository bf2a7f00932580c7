// Qwen2 and Qwen2.5: Llama with biases on Q, K and V (Yang et al. 2024).
#include "model/arch.h"

namespace thimble {
namespace {

constexpr TensorRow kTensors[] = {
    {Slot::kEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Slot::kOutputNorm, "output_norm.weight", "model.norm.weight"},
    {Slot::kOutput, "output.weight", "lm_head.weight", true},
    {Slot::kRopeFactors, "rope_freqs.weight", nullptr, true},
    {Slot::kAttnNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"},
    {Slot::kQ, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Slot::kK, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Slot::kV, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Slot::kO, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Slot::kFfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"},
    {Slot::kGate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Slot::kUp, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Slot::kDown, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Slot::kQBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", true},
    {Slot::kKBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", true},
    {Slot::kVBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", true},
};

constexpr const char* kTypes[] = {"qwen2"};

}  // namespace

extern const ArchRow kQwen2Arch;
const ArchRow kQwen2Arch = {
    .gguf_arch = "qwen2",
    .hf_types = kTypes,
    .hf_class = "Qwen2ForCausalLM",
    .tensors = kTensors,
    .hf_window_switch = "use_sliding_window",
    .gguf_head_size_keys = false,
};

}  // namespace thimble
