#!/usr/bin/env python3
"""Hold files of Thimble's own types (T2 to T5) against llama.cpp's Q2_K and Thimble's own best portable file.

  bench/native_peers.py F16.gguf --text en=wiki.txt --text ko=ko.txt [--minutes 20] [--recover en.txt]

F16.gguf: a model, or tools/make_continuous.py's stand-in for one. llama.cpp makes its Q2_K with an importance matrix of the text
that Thimble calibrates on; `thimble fit --native` makes a file of 72 % of that size. `thimble fit` makes the best portable file of
4.5 bits per weight, and `fit --native` one of the same size. With --recover a file that takes, with its adapter, 2.8 bits per weight
gets a recovery adapter taught on that text (articles in WikiText's form; the last 30 % are kept to measure on). KL divergence from
F16.gguf by `thimble compare` and `eval`. Prints tables, and writes them into docs/fit.md between the markers of the folder's name.

Needs: tools/setup_peers.sh
"""
import argparse
import json
import pathlib
import re

from fit_peers import ROOT, THIMBLE, compare, read_imatrix, run, write_table
from gguf import GGUFReader
from llama_cpp_api import quantize


def fit(source, out, minutes, *args):
    run(THIMBLE, "fit", source, "-o", out, *(["--minutes", minutes] if minutes else []), *args)
    return out


def make_files(source, folder, minutes):
    """{label: path}"""
    files = {name: folder / f"{name.replace(' ', '_').replace(',', '')}.gguf"
             for name in ["Q2_K llama.cpp, imatrix", "native, 72 %", "portable, 4.5 bits", "native, its size"]}
    run(THIMBLE, "imatrix", source, "-o", folder / "imatrix.gguf")
    q2_k, small, portable, native = files.values()
    quantize(source, q2_k, "Q2_K", imatrix=read_imatrix(folder / "imatrix.gguf"))
    fit(source, small, minutes, "--native", "--size", int(0.72 * q2_k.stat().st_size))
    fit(source, portable, minutes, "--bpw", 4.51)  # rows of 256 or not, IQ4_NL's 4.5 and norms in F32
    fit(source, native, minutes, "--native", "--size", portable.stat().st_size)
    return files


def ratio_line(texts, rows):
    native, portable = ([rows[label][t]["kld_mean"] for t in texts] for label in ("native, its size", "portable, 4.5 bits"))
    parts = [f"{a / b:.2f} ({t})" for t, a, b in zip(texts, native, portable)]
    return (f"KL divergence of the native file of the portable one's size, over that one's: {', '.join(parts)}; "
            f"of the means {sum(native) / sum(portable):.2f}.")


def recover(source, weights, folder, minutes, text, compute):
    """Rows of the table of files of 2.8 bits."""
    articles = re.split(r"(?m)^(?= = [^=].* = $)", text.read_text(encoding="utf-8"))
    learned, kept, n = folder / "learned.txt", folder / "kept.txt", int(0.7 * len(articles))
    learned.write_text("\n---\n".join(a.strip() for a in articles[:n] if a.strip()) + "\n", encoding="utf-8")
    kept.write_text("".join(articles[n:]), encoding="utf-8")
    small, adapter = folder / "2.8_bits.gguf", folder / "adapter"
    rank = 8
    run(THIMBLE, "fit", source, "-o", small, "--native", "--size", int(2.63 * weights / 8),
        *(["--minutes", minutes] if minutes else []))
    run(THIMBLE, "recover", small, "--teacher", source, "-o", adapter, "--compute", compute, "--rank", rank,
        "--calibration", f"articles={learned}", "--calibration-tokens", 49152, "--epochs", 3, "--batch-size", 4,
        "--learning-rate", "3e-4")
    packed = folder / "adapter.gguf"
    run(THIMBLE, "convert", adapter, "--base", small, "-o", packed, "--outtype", "q8_0")
    lines = ["| 2.8 bits per weight | MB | bits | perplexity | of the reference's | KL divergence |", "|---|---|---|---|---|---|"]
    for label, flags, paths in [("file", [], [small]), ("file and adapter", ["--adapter", packed], [small, packed])]:
        run(THIMBLE, "eval", small, *flags, "--reference", source, "--text", kept, "--max-windows", 12, "--json", folder / "eval.json")
        r = json.loads((folder / "eval.json").read_text())["texts"][0]
        size = sum(p.stat().st_size for p in paths)
        lines.append(f"| {label} | {size / 1e6:.1f} | {8 * size / weights:.2f} | {r['ppl']:.2f} | {r['ppl'] / r['reference_ppl']:.2f} | "
                     f"{r['kld_mean']:.3f} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--text", action="append", required=True, help="NAME=FILE")
    parser.add_argument("--max-windows", type=int, default=16)
    parser.add_argument("--minutes", type=float, help="fit's: for a large model")
    parser.add_argument("--recover", type=pathlib.Path, help="articles to teach and measure a file of 2.8 bits")
    parser.add_argument("--compute", default="bf16", help="of the recovery (default: %(default)s)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/native_peers")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    files = make_files(args.source, args.folder, args.minutes)
    texts, rows = compare(files, args)
    weights = sum(int(t.n_elements) for t in GGUFReader(args.source).tensors)
    lines = ["| file | MB | bits |" + "".join(f" {t}: KL divergence | perplexity |" for t in texts), "|---|---|---|" + "---|---|" * len(texts)]
    for label, path in files.items():
        size = path.stat().st_size
        cells = "".join(f" {rows[label][t]['kld_mean']:.4f} ± {rows[label][t]['kld_se']:.4f} | {rows[label][t]['ppl']:.2f} |" for t in texts)
        lines.append(f"| {label} | {size / 1e6:.1f} | {8 * size / weights:.2f} |{cells}")
    lines += ["", ratio_line(texts, rows)]
    if args.recover:
        lines += ["", *recover(args.source, weights, args.folder, args.minutes, args.recover, args.compute)]
    write_table(f"bench/native_peers.py {args.folder.name}", lines)


if __name__ == "__main__":
    main()
