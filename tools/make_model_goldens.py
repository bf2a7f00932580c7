#!/usr/bin/env python3
"""Write tiny random models in Hugging Face's format, and what Transformers computes with them.

Each folder under tests/golden/models/ gets config.json, the weights (random, with a fixed seed; norms and biases are
random too, so that a mistake in any of them shows), a tiny byte-level BPE tokenizer, and expected.json:

  sequences[]: "ids", "positions", "logits" (one row per position, the whole vocabulary), "top10" at the last position,
               and "greedy": the next 16 tokens.

Every mechanism that a model is there for (window, RoPE scaling, biases ...) is switched off once in a copy: the logits
must change, or the script stops. With --llama-cpp, gguf.json records what llama.cpp's own converter makes of the folder
(metadata, tensor names, types, shapes and the SHA-256 of each tensor's bytes), and by how much llama.cpp's logits on
that GGUF differ. That is large where GGUF or llama.cpp has no word for the mechanism: Mistral's window, Gemma 3's own
layer types and query scale; and 4e-3 for Gemma 3, whose GELU llama.cpp takes from a table in F16.

Needs: pip install torch transformers tokenizers safetensors, and for --llama-cpp: gguf llama-cpp-python.
The committed files come from torch 2.13.0, transformers 5.23.0, llama-cpp-python 0.3.36.
"""
import argparse
import contextlib
import copy
import hashlib
import json
import logging
import math
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parent.parent
VOCAB = 272  # of the tokenizer: 256 bytes, 2 special tokens, 14 merges
CHAT_TEMPLATE = ("{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
                 "{% if add_generation_prompt %}<s>assistant\n{% endif %}")
BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1,
            tie_word_embeddings=False)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)


def rope(theta, **scaling):
    return dict(rope_type="default", rope_theta=theta) | scaling


def gemma(full, local, **fields):
    return BASE | dict(head_dim=32, rms_norm_eps=1e-6, tie_word_embeddings=True, sliding_window=8, vocab_size=VOCAB,
                       rope_parameters=dict(full_attention=full, sliding_attention=local)) | fields


# name: model_type, config, how it is stored, and what must change the logits when it is changed
MODELS = {
    "llama": dict(type="llama", config=BASE | dict(rope_parameters=rope(10000.0)),
                  without={"theta": dict(rope_parameters=rope(500.0)), "eps": dict(rms_norm_eps=1e-1)}),
    "llama_bias_tied": dict(
        type="llama", config=BASE | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=16,
                                         num_key_value_heads=1, rope_parameters=rope(10000.0)),
        without={"attention bias": dict(attention_bias=False), "mlp bias": dict(mlp_bias=False)}),
    "llama_rope_llama3": dict(
        type="llama", config=BASE | dict(rope_parameters=LLAMA3_ROPE, num_key_value_heads=4), legacy=True,
        without={"scaling": dict(rope_parameters=rope(10000.0)),
                 "ramp": dict(rope_parameters=LLAMA3_ROPE | dict(high_freq_factor=1.5))}),
    "llama_rope_linear": dict(
        type="llama", config=BASE | dict(rope_parameters=rope(10000.0, rope_type="linear", factor=4.0)),
        without={"scaling": dict(rope_parameters=rope(10000.0))}),
    "mistral": dict(
        type="mistral", shards="100KB",
        config=BASE | dict(sliding_window=8, head_dim=24, rope_parameters=rope(10000.0)),
        without={"window": dict(sliding_window=None), "window + 1": dict(sliding_window=9)}),
    "qwen2": dict(
        type="qwen2", config=BASE | dict(vocab_size=280, tie_word_embeddings=True, rope_parameters=rope(1000000.0)),
        legacy=True, without={"theta": dict(rope_parameters=rope(10000.0))}),
    "qwen3": dict(
        type="qwen3", config=BASE | dict(head_dim=32, tie_word_embeddings=True, rope_parameters=rope(1000000.0)),
        dtype=torch.bfloat16, without={"theta": dict(rope_parameters=rope(10000.0))}),
    # As released configs have it: one window pattern, two thetas, scaling on the global layers only.
    "gemma3_text": dict(
        type="gemma3_text", legacy=True,
        config=gemma(rope(1000000.0, rope_type="linear", factor=8.0), rope(10000.0), query_pre_attn_scalar=32,
                     num_hidden_layers=7, hidden_size=48, num_attention_heads=2, num_key_value_heads=1,
                     intermediate_size=80, sliding_window_pattern=6),
        without={"window": dict(sliding_window=256), "pattern": dict(layer_types=["sliding_attention"] * 7),
                 "global scaling": dict(rope_parameters=dict(full_attention=rope(1000000.0),
                                                             sliding_attention=rope(10000.0))),
                 "global theta": dict(rope_parameters=dict(
                     full_attention=rope(10000.0, rope_type="linear", factor=8.0), sliding_attention=rope(10000.0))),
                 "local theta": dict(rope_parameters=dict(
                     full_attention=rope(1000000.0, rope_type="linear", factor=8.0),
                     sliding_attention=rope(1000000.0)))}),
    # As Transformers 5 writes it, with a pattern of its own and a query scale that isn't the head's size.
    "gemma3_text_layer_types": dict(
        type="gemma3_text",
        config=gemma(rope(1000000.0), rope(10000.0), query_pre_attn_scalar=50, num_hidden_layers=4,
                     layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"]),
        without={"query scale": dict(query_pre_attn_scalar=32), "window": dict(sliding_window=256),
                 "pattern": dict(layer_types=["sliding_attention"] * 4)}),
}


def randomize(model, seed):
    """Weights that keep the hidden state's size through the layers, and logits that are spread."""
    generator = torch.Generator().manual_seed(seed)
    gemma_norm = model.config.model_type.startswith("gemma")

    def normal(p, std):
        p.copy_(torch.randn(p.shape, generator=generator) * std)

    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "norm" in name:
                p.copy_(torch.rand(p.shape, generator=generator) * 1.2 - (0.6 if gemma_norm else -0.4))
            elif name.endswith(".bias"):
                normal(p, 0.4)
            elif "embed_tokens" in name or "lm_head" in name:
                normal(p, 3.0 / math.sqrt(p.shape[1]))
            else:
                normal(p, (1.4 if "q_proj" in name or "k_proj" in name else 1.0) / math.sqrt(p.shape[1]))


def build(spec, seed):
    config = AutoConfig.for_model(spec["type"], **spec["config"])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomize(model, seed)
    dtype = spec.get("dtype", torch.float32)
    for p in model.parameters():  # the values of the stored type, the arithmetic of F32
        p.data = p.data.to(dtype).float()
    return model, dtype


def make_tokenizer():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    text = ["the thimble holds the thread and the needle; then the torch is on, please"]
    bpe.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    assert bpe.get_vocab_size() == VOCAB
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def to_legacy(config):
    """The config as Transformers 4 wrote it: rope_theta and rope_scaling, torch_dtype, sliding_window_pattern."""
    out = {k: v for k, v in config.items() if k not in ("rope_parameters", "dtype", "layer_types")}
    parameters = config["rope_parameters"]
    full = dict(parameters.get("full_attention", parameters))
    if "sliding_attention" in parameters:
        out["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        out["sliding_window_pattern"] = config["layer_types"].index("full_attention") + 1
        out.pop("_sliding_window_pattern", None)
    out["rope_theta"] = full.pop("rope_theta")
    out["rope_scaling"] = None if full["rope_type"] == "default" else full
    out["torch_dtype"] = config["dtype"]
    out["transformers_version"] = "4.51.0"
    return dict(sorted(out.items()))


def save(model, spec, dtype, folder):
    copy.deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=spec.get("shards", "5GB"))
    make_tokenizer().save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["dtype"] = str(dtype).removeprefix("torch.")
    if spec.get("legacy"):
        config = to_legacy(config)
    path.write_text(json.dumps(config, indent=2) + "\n")


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()


def greedy(model, ids, n):
    """The n next tokens without a cache, and the smallest lead that one of them had."""
    ids, lead = list(ids), math.inf
    for _ in range(n):
        top = logits_of(model, ids)[-1].topk(2)
        lead = min(lead, (top.values[0] - top.values[1]).item())
        ids.append(top.indices[0].item())
    return ids[-n:], lead


def sequences_of(model, seed):
    generator = torch.Generator().manual_seed(seed)
    out, smallest_lead = [], math.inf
    for length, positions in ((40, [0, 1, 17, 39]), (9, [0, 4, 8])):
        ids = torch.randint(2, VOCAB, (length,), generator=generator).tolist()
        logits = logits_of(model, ids)
        top = logits[-1].topk(10)
        tokens, lead = greedy(model, ids, 16)
        gaps = logits[-1].topk(11).values.diff().abs().min().item()
        smallest_lead = min(smallest_lead, lead, 5 * gaps)
        generated = model.generate(torch.tensor([ids]), max_new_tokens=16, do_sample=False, eos_token_id=None,
                                   pad_token_id=0)[0, length:].tolist()
        assert generated == tokens, "with and without a cache the greedy tokens differ"
        rounded = [[round(v, 5) for v in row] for row in logits[positions].tolist()]
        out.append(dict(ids=ids, positions=positions, logits=rounded, greedy=tokens,
                        top10=dict(ids=top.indices.tolist(), logits=[round(v, 5) for v in top.values.tolist()])))
    return out, smallest_lead


def check_mechanisms(model, spec, sequences):
    """Each mechanism switched off must move the logits of the longer sequence's last position."""
    ids, reference = sequences[0]["ids"], torch.tensor(sequences[0]["logits"][-1])
    changes = {}
    for what, change in spec["without"].items():
        config = AutoConfig.for_model(spec["type"], **(spec["config"] | change))
        other = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        other.load_state_dict(model.state_dict(), strict=False)
        changes[what] = (logits_of(other, ids)[-1] - reference).abs().max().item()
        assert changes[what] > 0.05, f"{what} makes no difference ({changes[what]:.2g}): the golden would not test it"
    return changes


def make(name, spec, folder):
    for seed in range(1000):  # a seed whose choices all have a clear lead
        model, dtype = build(spec, seed)
        sequences, lead = sequences_of(model, seed)
        if lead > 0.02:
            break
    changes = check_mechanisms(model, spec, sequences)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save(model, spec, dtype, folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    for s in sequences:  # what is on disk, with the other attention
        error = (logits_of(loaded, s["ids"])[s["positions"]] - torch.tensor(s["logits"])).abs().max().item()
        assert error < 2e-4, f"{name}: the saved model differs by {error}"
    expected = dict(model_type=spec["type"], seed=seed, n_parameters=sum(p.numel() for p in loaded.parameters()),
                    sequences=sequences)
    text = json.dumps(expected, separators=(",", ":")).replace('"logits":[[', '"logits":[\n[').replace("],[", "],\n[")
    (folder / "expected.json").write_text(text + "\n")
    spread = torch.tensor(sequences[0]["logits"]).std().item()
    print(f"{name}: seed {seed}, smallest lead {lead:.3f}, logits' spread {spread:.2f}; switched off: "
          + ", ".join(f"{k} {v:.2f}" for k, v in changes.items()))


def convert_with_llama_cpp(source, folder, out):
    """llama.cpp's converter, which knows tokenizers by a hash of a test text: ours is told to be GPT-2's."""
    sys.path[:0] = [str(source), str(source / "gguf-py")]
    import convert_hf_to_gguf as converter
    from conversion.base import TextModel

    def no_file(self):
        raise FileNotFoundError  # so that it tries the next kind of tokenizer, without the sentencepiece package

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    TextModel._set_vocab_sentencepiece = TextModel._set_vocab_llama_hf = no_file
    logging.disable(logging.WARNING)
    arguments, sys.argv = sys.argv, ["convert_hf_to_gguf.py", str(folder), "--outtype", "f32", "--outfile", str(out)]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            converter.main()
    finally:
        sys.argv = arguments


def describe_gguf(path):
    from gguf import GGUFReader

    reader = GGUFReader(path)
    metadata = {}
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.name", "general.size_label", "general.finetune"):
            continue
        value = field.contents()
        if isinstance(value, list) and len(value) > 64:
            joined = "\n".join(map(str, value)).encode()
            value = dict(length=len(value), sha256_of_lines=hashlib.sha256(joined).hexdigest())
        metadata[key] = dict(type="/".join(t.name for t in field.types[:2]), value=value)
    tensors = [dict(name=t.name, type=t.tensor_type.name, shape=[int(d) for d in reversed(t.shape)],
                    sha256=hashlib.sha256(t.data.tobytes()).hexdigest()) for t in reader.tensors]
    return dict(metadata=metadata, tensors=tensors)


def write_lines(path, value):
    """JSON with one line for each entry of the lists and objects at the second level."""
    def entries(v):
        if isinstance(v, dict):
            return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(e)}" for k, e in v.items()) + "\n}"
        return "[\n" + ",\n".join(map(json.dumps, v)) + "\n]" if isinstance(v, list) else json.dumps(v)

    path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {entries(v)}" for k, v in value.items()) + "\n}\n")


def compare_with_llama_cpp(path, expected):
    sys.path.insert(0, str(ROOT / "tools"))
    from llama_cpp_api import LlamaModel

    with LlamaModel(path, n_ctx=128, n_threads=2) as model:
        worst = 0.0
        for s in expected["sequences"]:
            logits = torch.from_numpy(model.logits(s["ids"]))[s["positions"]]
            worst = max(worst, (logits - torch.tensor(s["logits"])).abs().max().item())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "tests/golden/models")
    parser.add_argument("--llama-cpp", type=pathlib.Path, metavar="DIR",
                        help="llama.cpp's source: write gguf.json with its converter")
    parser.add_argument("--only-gguf", action="store_true", help="leave the models, write gguf.json only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in args.names or MODELS:
        folder = args.out / name
        if not args.only_gguf:
            make(name, MODELS[name], folder)
        if args.llama_cpp:
            with tempfile.TemporaryDirectory() as scratch:
                out = pathlib.Path(scratch) / f"{name}.gguf"
                convert_with_llama_cpp(args.llama_cpp, folder, out)
                expected = json.loads((folder / "expected.json").read_text())
                difference = compare_with_llama_cpp(out, expected)
                print(f"{name}: llama.cpp's logits differ by at most {difference:.2g}")
                write_lines(folder / "gguf.json", describe_gguf(out) | dict(llama_cpp_difference=difference))


if __name__ == "__main__":
    main()
