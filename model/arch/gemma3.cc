// Gemma 3 text models: norms before and after each half of a block, five local layers to a global one (Gemma
// Team 2025).
#include "model/arch.h"

namespace thimble {
namespace {

constexpr TensorRow kTensors[] = {
    {Slot::kEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Slot::kOutputNorm, "output_norm.weight", "model.norm.weight", false, GgufTransform::kPlusOne},
    {Slot::kOutput, "output.weight", "lm_head.weight", true},
    {Slot::kRopeFactors, "rope_freqs.weight", nullptr, true},
    {Slot::kAttnNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight", false,
     GgufTransform::kPlusOne},
    {Slot::kQ, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"},
    {Slot::kK, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"},
    {Slot::kV, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Slot::kO, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Slot::kQNorm, "blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight", false,
     GgufTransform::kPlusOne},
    {Slot::kKNorm, "blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight", false,
     GgufTransform::kPlusOne},
    {Slot::kPostAttnNorm, "blk.{}.post_attention_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight", false, GgufTransform::kPlusOne},
    {Slot::kFfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.pre_feedforward_layernorm.weight", false,
     GgufTransform::kPlusOne},
    {Slot::kGate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Slot::kUp, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Slot::kDown, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Slot::kPostFfnNorm, "blk.{}.post_ffw_norm.weight", "model.layers.{}.post_feedforward_layernorm.weight",
     false, GgufTransform::kPlusOne},
};

constexpr const char* kTypes[] = {"gemma3_text"};

}  // namespace

extern const ArchRow kGemma3Arch;
const ArchRow kGemma3Arch = {
    .gguf_arch = "gemma3",
    .hf_types = kTypes,
    .hf_class = "Gemma3ForCausalLM",
    .tensors = kTensors,
    .activation = Activation::kGeluTanh,
    .scale_embedding = true,
    .tied_by_default = true,
    .default_rope_theta = 1000000,
    .default_rope_theta_local = 10000,
    .default_window_pattern = 6,
};

}  // namespace thimble
