// Qwen3: QK-norm on each head, no biases, head_dim of its own (Yang et al. 2025).
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
    {Slot::kQNorm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"},
    {Slot::kKNorm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"},
};

constexpr const char* kTypes[] = {"qwen3"};

}  // namespace

extern const ArchRow kQwen3Arch;
const ArchRow kQwen3Arch = {
    .gguf_arch = "qwen3",
    .hf_types = kTypes,
    .hf_class = "Qwen3ForCausalLM",
    .tensors = kTensors,
    .hf_window_switch = "use_sliding_window",
};

}  // namespace thimble
