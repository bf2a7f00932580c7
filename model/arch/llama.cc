// Llama 1-3, SmolLM2 and Mistral: the base of most families (Touvron et al. 2023; Jiang et al. 2023).
#include "model/arch.h"

namespace thimble {
namespace {

constexpr TensorRow kTensors[] = {
    {Slot::kEmbedding, "token_embd.weight", "model.embed_tokens.weight"},
    {Slot::kOutputNorm, "output_norm.weight", "model.norm.weight"},
    {Slot::kOutput, "output.weight", "lm_head.weight", true},
    {Slot::kRopeFactors, "rope_freqs.weight", nullptr, true},
    {Slot::kAttnNorm, "blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"},
    {Slot::kQ, "blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight", false,
     GgufTransform::kPermuteHeads},
    {Slot::kK, "blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight", false,
     GgufTransform::kPermuteHeads},
    {Slot::kV, "blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"},
    {Slot::kO, "blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"},
    {Slot::kFfnNorm, "blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"},
    {Slot::kGate, "blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"},
    {Slot::kUp, "blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Slot::kDown, "blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"},
    {Slot::kQBias, "blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias", true,
     GgufTransform::kPermuteHeads},
    {Slot::kKBias, "blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias", true,
     GgufTransform::kPermuteHeads},
    {Slot::kVBias, "blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias", true},
    {Slot::kOBias, "blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias", true},
    {Slot::kGateBias, "blk.{}.ffn_gate.bias", "model.layers.{}.mlp.gate_proj.bias", true},
    {Slot::kUpBias, "blk.{}.ffn_up.bias", "model.layers.{}.mlp.up_proj.bias", true},
    {Slot::kDownBias, "blk.{}.ffn_down.bias", "model.layers.{}.mlp.down_proj.bias", true},
};

constexpr const char* kLlamaTypes[] = {"llama"};
constexpr const char* kMistralTypes[] = {"mistral"};

}  // namespace

extern const ArchRow kLlamaArch;
const ArchRow kLlamaArch = {
    .gguf_arch = "llama",
    .hf_types = kLlamaTypes,
    .hf_class = "LlamaForCausalLM",
    .tensors = kTensors,
    .gguf_rope_interleaved = true,
    .gguf_llama_size_keys = true,
};

extern const ArchRow kMistralArch;
const ArchRow kMistralArch = {
    .gguf_arch = "llama",
    .hf_types = kMistralTypes,
    .hf_class = "MistralForCausalLM",
    .tensors = kTensors,
    .gguf_rope_interleaved = true,
    .gguf_llama_size_keys = true,
};

}  // namespace thimble
