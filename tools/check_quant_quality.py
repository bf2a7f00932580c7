#!/usr/bin/env python3
"""Compare `thimble quantize` with llama_model_quantize (without an importance matrix), type by type.

Each source is brought to F32 first. Both quantizers then make a file of each type from it (one type for all matrices),
and gguf-py decodes both. For each type and kind of tensor: our relative squared error, theirs, and the ratio; and the
ratio with errors weighted by the weight's magnitude, which is what llama.cpp's own search looks at. Fails where a ratio
is above --bar. With --decode, also fails where `thimble dequantize` of llama.cpp's file differs from gguf-py in a bit.

  check_quant_quality.py                                 a made-up file: rows of 1024 of four distributions
  check_quant_quality.py models/a.gguf --decode          a real one; rows that are not whole blocks are left out

Needs: pip install llama-cpp-python==0.3.36 gguf==0.19.0 numpy
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from llama_cpp_api import quantize  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Our type -> llama.cpp's file type whose base it is.
TYPES = {"Q8_0": "Q8_0", "Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q5_0": "Q5_0", "Q5_1": "Q5_1", "Q2_K": "Q2_K",
         "Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "Q6_K": "Q6_K", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS",
         "IQ3_S": "IQ3_S"}
WIDTH, ROWS = 1024, 512


def write_synthetic(path):
    """A GGUF that llama.cpp takes for a model's, with a distribution of weights in each kind of tensor."""
    rng = np.random.default_rng(0)
    shape = (ROWS, WIDTH)
    columns, rows = np.exp(0.5 * rng.standard_normal((1, WIDTH))), np.exp(rng.standard_normal((ROWS, 1)))
    tensors = {"token_embd": rng.standard_normal(shape), "blk.0.ffn_up": rng.laplace(size=shape),
               "blk.0.ffn_gate": rng.standard_t(4, shape), "blk.0.ffn_down": rng.standard_normal(shape) * rows * columns}
    out = GGUFWriter(path, "llama")
    out.add_block_count(1)
    out.add_context_length(256)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(WIDTH)
    out.add_head_count(8)
    out.add_head_count_kv(8)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // 8)
    out.add_vocab_size(ROWS)
    for name, weights in tensors.items():
        out.add_tensor(name + ".weight", (0.02 * weights).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def tensors_of(path):
    return {t.name: t for t in GGUFReader(path).tensors}


def decoded(tensor):
    return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)


def kind_of(name):
    return re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")


def errors_by_kind(reference, path, wanted):
    """kind -> sums of the error and of the weights' squares, plain and weighted by |x|, over tensors of that type."""
    sums = {}
    for name, tensor in tensors_of(path).items():
        if tensor.tensor_type.name != wanted:
            continue
        x = decoded(reference[name]).astype(np.float64)
        error = (x - decoded(tensor)) ** 2
        w = np.abs(x)
        sums[kind_of(name)] = sums.get(kind_of(name), 0) + np.array(
            [error.sum(), (x ** 2).sum(), (w * error).sum(), (w * x ** 2).sum()])
    return {kind: (s[0] / s[1], s[2] / s[3]) for kind, s in sums.items()}


def ratio(a, b):
    return a / b if b > 0 else (1.0 if a < 1e-9 else np.inf)


def differing_tensors(thimble, path, scratch):
    """The tensors that thimble and gguf-py decode to different bits."""
    out = scratch / "decoded.gguf"
    thimble("dequantize", path, "-o", out, "--type", "F32")
    ours = tensors_of(out)
    return [name for name, tensor in tensors_of(path).items()
            if not np.array_equal(decoded(ours[name]).view(np.uint32), decoded(tensor).view(np.uint32))]


def compare(args, thimble, label, source, scratch):
    """Returns how many figures missed the bar, and the number of bits' comparisons that failed."""
    reference_path, failures = scratch / "f32.gguf", 0
    thimble("dequantize", source, "-o", reference_path, "--type", "F32")
    reference = tensors_of(reference_path)
    for name in args.types:
        ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
        start = time.time()
        thimble("quantize", reference_path, "-o", ours, "--type", name, "--pure")
        seconds = time.time() - start
        quantize(reference_path, theirs, TYPES[name], pure=True)
        our_errors = errors_by_kind(reference, ours, name)
        their_errors = errors_by_kind(reference, theirs, name)
        if our_errors.keys() != their_errors.keys():
            failures += 1
            print(f"{label} {name}: the two files have other tensors in this type: "
                  f"{sorted(our_errors)} and {sorted(their_errors)}")
        for kind in sorted(our_errors.keys() & their_errors.keys()):
            (a, a_weighted), (b, b_weighted) = our_errors[kind], their_errors[kind]
            plain, weighted = ratio(a, b), ratio(a_weighted, b_weighted)
            bad = max(plain, weighted) > args.bar
            failures += bad
            print(f"{label:24} {name:7} {kind:12} ours {a:.4e}  llama.cpp {b:.4e}  ratio {plain:.4f}  "
                  f"weighted {weighted:.4f}{'  WORSE' if bad else ''}")
        line = f"{label:24} {name:7} {seconds:.1f} s"
        if args.decode:
            differing = differing_tensors(thimble, theirs, scratch)
            failures += len(differing)
            line += f"; decoding llama.cpp's file: {', '.join(differing) + ' DIFFER' if differing else 'equal to the bit'}"
        print(line, flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", nargs="*", type=pathlib.Path)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES), metavar="TYPE")
    parser.add_argument("--bar", type=float, default=1.0005, help="largest ratio of errors (default 1.0005)")
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--thimble", default=ROOT / "build/release/bin/thimble")
    args = parser.parse_args()

    def thimble(*command):
        subprocess.run([str(args.thimble), *map(str, command)], check=True, stdout=subprocess.DEVNULL)

    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        sources = args.gguf
        if not sources:
            sources = [scratch / "synthetic.gguf"]
            write_synthetic(sources[0])
        for source in sources:
            failures += compare(args, thimble, source.stem[:24], source, scratch)
    print(f"{failures} figures beyond the bar" if failures else "all within the bar")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
