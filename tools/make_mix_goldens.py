#!/usr/bin/env python3
"""Record which type llama.cpp's quantizer gives to each tensor, for each named mix (Q4_K_M, IQ4_XS, ...).

For each shape set below a GGUF is made with the metadata and the row widths of a model family but only a few rows per
tensor (the choice depends on names, row widths, layers and heads, not on the number of rows), quantized by
llama_model_quantize for each mix, and read back. With --gguf, a real file's own tensors too.

tests/golden/mixes/<shape>.json: "metadata"; "tensors": [name, [outermost .. innermost]] of all tensors with two
dimensions, in file order; "types": for each mix one type per tensor, in that order.

Needs: pip install llama-cpp-python==0.3.36 gguf numpy
"""
import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
from gguf import GGUFReader, GGUFWriter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from llama_cpp_api import quantize  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIXES = ("F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
         "IQ3_S IQ3_M IQ4_NL IQ4_XS").split()
IMATRIX_MIXES = "Q2_K_S IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS".split()  # refused without an importance matrix
N_ROWS = 4


def shape(arch, n_layers, n_embd, n_ff, n_heads, n_kv, head_dim=None, tied=False, qkv_bias=False, qk_norm=False,
          post_norms=False):
    return dict(arch=arch, n_layers=n_layers, n_embd=n_embd, n_ff=n_ff, n_heads=n_heads, n_kv=n_kv, tied=tied,
                head_dim=head_dim or n_embd // n_heads, qkv_bias=qkv_bias, qk_norm=qk_norm, post_norms=post_norms)


SHAPES = {
    "llama_mha": shape("llama", 22, 256, 512, 4, 4),
    "llama_mha_tied": shape("llama", 22, 256, 512, 4, 4, tied=True),
    "llama_gqa4": shape("llama", 22, 256, 768, 8, 2),
    "llama_gqa8_tied": shape("llama", 13, 512, 1024, 8, 1, tied=True),
    "llama_gqa8_80_layers": shape("llama", 80, 256, 512, 8, 1),
    "llama_rows_of_32": shape("llama", 9, 96, 160, 3, 1),
    "llama_rows_odd": shape("llama", 3, 80, 112, 5, 5, tied=True),
    "qwen2_0.5b": shape("qwen2", 24, 896, 4864, 14, 2, tied=True, qkv_bias=True),
    "qwen3_0.6b": shape("qwen3", 28, 1024, 3072, 16, 8, head_dim=128, tied=True, qk_norm=True),
    "gemma3_270m": shape("gemma3", 18, 640, 2048, 4, 1, head_dim=256, tied=True, qk_norm=True, post_norms=True),
    "gemma3_1b": shape("gemma3", 26, 1152, 6912, 4, 1, head_dim=256, tied=True, qk_norm=True, post_norms=True),
}


def matrices_of(s):
    """Name and row width of each matrix of a layer, and the vectors."""
    attention = s["n_heads"] * s["head_dim"]
    matrices = {"attn_q": s["n_embd"], "attn_k": s["n_embd"], "attn_v": s["n_embd"], "attn_output": attention,
                "ffn_gate": s["n_embd"], "ffn_up": s["n_embd"], "ffn_down": s["n_ff"]}
    vectors = {"attn_norm.weight": s["n_embd"], "ffn_norm.weight": s["n_embd"]}
    if s["qkv_bias"]:
        vectors |= {f"attn_{x}.bias": N_ROWS for x in "qkv"}
    if s["qk_norm"]:
        vectors |= {f"attn_{x}_norm.weight": s["head_dim"] for x in "qk"}
    if s["post_norms"]:
        vectors |= {"post_attention_norm.weight": s["n_embd"], "post_ffw_norm.weight": s["n_embd"]}
    return matrices, vectors


def write_gguf(path, s):
    rng = np.random.default_rng(0)
    out = GGUFWriter(path, s["arch"])
    out.add_block_count(s["n_layers"])
    out.add_context_length(256)
    out.add_embedding_length(s["n_embd"])
    out.add_feed_forward_length(s["n_ff"])
    out.add_head_count(s["n_heads"])
    out.add_head_count_kv(s["n_kv"])
    out.add_key_length(s["head_dim"])
    out.add_value_length(s["head_dim"])
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(s["head_dim"])
    out.add_vocab_size(N_ROWS)
    out.add_file_type(1)

    def matrix(name, width):
        out.add_tensor(name, rng.standard_normal((N_ROWS, width)).astype(np.float16))

    matrix("token_embd.weight", s["n_embd"])
    matrices, vectors = matrices_of(s)
    for layer in range(s["n_layers"]):
        for name, width in vectors.items():
            out.add_tensor(f"blk.{layer}.{name}", np.ones(width, np.float32))
        for name, width in matrices.items():
            matrix(f"blk.{layer}.{name}.weight", width)
    out.add_tensor("output_norm.weight", np.ones(s["n_embd"], np.float32))
    if not s["tied"]:
        matrix("output.weight", s["n_embd"])
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def describe(path, mixes):
    """Metadata, tensors and the types of each mix, of one GGUF."""
    reader = GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    metadata = {"general.architecture": arch}
    for key, field in reader.fields.items():
        value = field.contents()
        if key.startswith(arch + ".") and not isinstance(value, list):
            metadata[key] = value
    tensors = [[t.name, [int(d) for d in reversed(t.shape)]] for t in reader.tensors if len(t.shape) == 2]
    ones = {name: np.ones(shape[-1]) for name, shape in tensors}
    types = {}
    with tempfile.TemporaryDirectory() as scratch:
        for mix in mixes:
            out = pathlib.Path(scratch) / "mix.gguf"
            quantize(path, out, mix, imatrix=ones if mix in IMATRIX_MIXES else None)
            chosen = {t.name: t.tensor_type.name for t in GGUFReader(out).tensors}
            types[mix] = [chosen[name] for name, _ in tensors]
    return dict(metadata=metadata, tensors=tensors, types=types)


def write(path, golden):
    lines = ['"metadata": ' + json.dumps(golden["metadata"])]
    lines.append('"tensors": [\n' + ",\n".join(map(json.dumps, golden["tensors"])) + "\n]")
    lines.append('"types": {\n' + ",\n".join(f'"{k}": ' + json.dumps(v, separators=(",", ":"))
                                             for k, v in golden["types"].items()) + "\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    counts = {mix: {t: types.count(t) for t in sorted(set(types))} for mix, types in golden["types"].items()}
    print(path.stem)
    for mix, count in counts.items():
        print(f"  {mix:7} " + ", ".join(f"{n} x {t}" for t, n in count.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)}; default: all")
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "tests/golden/mixes")
    parser.add_argument("--gguf", type=pathlib.Path, help="an F16 or F32 file to do as well")
    parser.add_argument("--name", help="the golden's name for --gguf (default: the file's)")
    parser.add_argument("--mixes", nargs="+", default=MIXES + IMATRIX_MIXES)
    args = parser.parse_args()
    if args.gguf:
        write(args.out / f"{args.name or args.gguf.stem}.json", describe(args.gguf, args.mixes))
    for name in args.shapes or (SHAPES if not args.gguf else []):
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / f"{name}.gguf"
            write_gguf(path, SHAPES[name])
            write(args.out / f"{name}.json", describe(path, args.mixes))


if __name__ == "__main__":
    main()
