#!/usr/bin/env python3
"""Hold T2, T3 and T4 against the IQ types where those fit too: on matrices whose rows are multiples of 256.

  bench/iq_peers.py F16.gguf --text en=wiki.txt --text ko=ko.txt [--tensors ffn_down]

Only the matrices that --tensors matches are rounded, everything else stays F16, so that KL divergence from F16.gguf is theirs alone.
IQ types are made in two ways: by llama.cpp with an importance matrix, and by Thimble with feedback of errors (gptq), as T types are; of IQ
types only IQ4_XS takes it, for the others it is the importance matrix again. The better counts.
"IQ at these bits" lies between the IQ types of fewer and of more bits, where the logarithm of KL divergence is a straight line over
bits. Prints a table, and writes it into docs/fit.md between the markers of the folder's name.

Needs: tools/setup_peers.sh
"""
import argparse
import math
import pathlib
import re
import shutil

from fit_peers import ROOT, THIMBLE, compare, read_imatrix, run, write_table
from gguf import GGMLQuantizationType, GGUFReader
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from llama_cpp_api import quantize

IQ_TYPES = ["IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ3_S", "IQ4_XS"]
NATIVE_BITS = {"T2": 2.125, "T3": 3.125, "T4": 4.125}


def bits(mix):
    if mix in NATIVE_BITS:
        return NATIVE_BITS[mix]
    weights, size = GGML_QUANT_SIZES[GGMLQuantizationType[mix]]
    return 8 * size / weights


def by_llama_cpp(source, out, mix, tensors, folder):
    """A copy of F16 source whose matching tensors hold what llama.cpp rounds them to."""
    pure = folder / "pure.gguf"
    quantize(source, pure, mix, pure=True, imatrix=read_imatrix(folder / "imatrix.gguf"))
    rounded = {t.name: t for t in GGUFReader(pure).tensors}
    shutil.copy(source, out)
    for tensor in GGUFReader(out, "r+").tensors:
        if re.search(tensors, tensor.name):
            t = rounded[tensor.name]
            assert t.tensor_type.name == mix, f"{t.name} is {t.tensor_type.name}: its rows are no multiples of 256"
            tensor.data[:] = dequantize(t.data, t.tensor_type).astype(tensor.data.dtype)
    pure.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--text", action="append", required=True, help="NAME=FILE")
    parser.add_argument("--tensors", default="ffn_down", help="regular expression (default: %(default)s)")
    parser.add_argument("--max-windows", type=int, default=16)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/iq_peers")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    run(THIMBLE, "imatrix", args.source, "-o", args.folder / "imatrix.gguf")
    files = {}
    for mix in IQ_TYPES:
        files[mix, "llama.cpp"] = args.folder / f"{mix}-llama.cpp.gguf"
        by_llama_cpp(args.source, files[mix, "llama.cpp"], mix, args.tensors, args.folder)
    for mix in [*IQ_TYPES, *NATIVE_BITS]:
        out = files[mix, "Thimble"] = args.folder / f"{mix}-Thimble.gguf"
        run(THIMBLE, "quantize", args.source, "-o", out, "--type", "F16", "--tensor-type", f"{args.tensors}={mix}", "--method", "gptq")
    texts, rows = compare({f"{mix} {maker}": path for (mix, maker), path in files.items()}, args)

    def loss(mix, maker, text):
        return rows[f"{mix} {maker}"][text]["kld_mean"]

    lines = ["| type | bits |" + "".join(f" {t}: llama.cpp | Thimble | IQ at these bits |" for t in texts), "|---|---|" + "---|---|---|" * len(texts)]
    for mix in sorted([*IQ_TYPES, *NATIVE_BITS], key=bits):
        cells = ""
        for t in texts:
            ours, theirs, rival = loss(mix, "Thimble", t), "", ""
            if mix in IQ_TYPES:
                theirs = f"{loss(mix, 'llama.cpp', t):.4f}"
            else:
                low = max((q for q in IQ_TYPES if bits(q) <= bits(mix)), key=bits)
                high = min((q for q in IQ_TYPES if bits(q) > bits(mix)), key=bits)
                share = (bits(mix) - bits(low)) / (bits(high) - bits(low))
                a, b = (math.log(min(loss(q, maker, t) for maker in ("llama.cpp", "Thimble"))) for q in (low, high))
                line = math.exp((1 - share) * a + share * b)
                rival = f"{line:.4f}, {ours / line:.2f}x"
            cells += f" {theirs} | {ours:.4f} | {rival} |"
        lines.append(f"| {mix} | {bits(mix):.4g} |{cells}")
    write_table(f"bench/iq_peers.py {args.folder.name}", lines)
    for path in files.values():
        path.unlink()


if __name__ == "__main__":
    main()
