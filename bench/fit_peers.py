#!/usr/bin/env python3
"""Hold `thimble fit` and `thimble quantize --method gptq` against llama.cpp's quantizer at the same file sizes.

  bench/fit_peers.py F16.gguf --text en=wiki.txt --text ko=ko.txt [--max-windows 32]

llama.cpp makes each of MIXES with and without an importance matrix; the matrix is `thimble imatrix`'s, from the very text that
Thimble calibrates on. Thimble makes a file of each one's size, one of 85 % of Q4_K_M's, and Q4_K_M's own types. All are scored by
`thimble compare`, and ours once more by llama.cpp. Writes the tables into docs/fit.md.

Needs: tools/setup_peers.sh
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "bench/peers/venv/bin/python"
if VENV.exists() and pathlib.Path(sys.prefix) != VENV.parent.parent:
    os.execv(VENV, [str(VENV), *sys.argv])

from gguf import GGUFReader  # noqa: E402

sys.path.insert(0, str(ROOT / "tools"))
from llama_cpp_api import LlamaModel, quantize  # noqa: E402

MIXES = ["Q4_K_M", "Q3_K_M", "Q4_0", "IQ4_XS", "Q2_K"]
THIMBLE = pathlib.Path(os.environ.get("THIMBLE", ROOT / "build/release/bin/thimble"))
PAGE = ROOT / "docs/fit.md"


def run(*command):
    print("+", *command, file=sys.stderr)
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def read_imatrix(path):
    tensors = {t.name: t.data for t in GGUFReader(path).tensors}
    return {name[:-len(".in_sum2")]: data.ravel() / tensors[name[:-len(".in_sum2")] + ".counts"].ravel()[0]
            for name, data in tensors.items() if name.endswith(".in_sum2")}


def make_files(source, folder):
    """{label: path}"""
    files = {}
    run(THIMBLE, "imatrix", source, "-o", folder / "imatrix.gguf")
    imatrix = read_imatrix(folder / "imatrix.gguf")
    for mix in MIXES:
        for label, matrix in ((f"{mix} llama.cpp", None), (f"{mix} llama.cpp, imatrix", imatrix)):
            files[label] = folder / (label.replace(" ", "_").replace(",", "") + ".gguf")
            quantize(source, files[label], mix, imatrix=matrix)
        size = files[label].stat().st_size
        files[f"{mix} fit"] = folder / f"{mix}_fit.gguf"
        run(THIMBLE, "fit", source, "--size", size, "-o", files[f"{mix} fit"])
    files["Q4_K_M gptq"] = folder / "Q4_K_M_gptq.gguf"
    run(THIMBLE, "quantize", source, "--type", "Q4_K_M", "--method", "gptq", "-o", files["Q4_K_M gptq"])
    files["0.85 fit"] = folder / "085_fit.gguf"
    size = int(0.85 * files["Q4_K_M llama.cpp, imatrix"].stat().st_size)
    run(THIMBLE, "fit", source, "--size", size, "-o", files["0.85 fit"])
    return files


def seconds(work):
    begin = time.time()
    work()
    return time.time() - begin


def speed_table(source, folder):
    """Plain rounding, alternately, medians of three; ours as a whole process."""
    lines = ["| rounded to | Thimble, s | llama.cpp, s | ratio |", "|---|---|---|---|"]
    for mix in ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", "Q4_0", "Q5_0", "IQ4_NL", "IQ4_XS"]:
        ours, theirs = [], []
        for _ in range(3):
            ours.append(seconds(lambda: run(THIMBLE, "quantize", source, "--type", mix, "-o", folder / "ours.gguf")))
            theirs.append(seconds(lambda: quantize(source, folder / "theirs.gguf", mix)))
        a, b = statistics.median(ours), statistics.median(theirs)
        lines.append(f"| {mix} | {a:.2f} | {b:.2f} | {b / a:.1f} |")
    return lines


def row(texts, rows, label, against):
    cells = []
    for text in texts:
        ours, theirs = rows[label][text]["kld_mean"], rows[against][text]["kld_mean"]
        cells += [f"{ours:.4f}", f"{theirs:.4f}", f"{ours / theirs:.2f}"]
    return cells


def compare(files, args):
    """The texts' names, and {label: {text: record}} of the files {label: path}, held against args.source."""
    out = args.folder / "compare.json"
    run(THIMBLE, "compare", *[f"{label}={path}" for label, path in files.items()], "--reference", args.source,
        *[a for t in args.text for a in ("--text", t)], "--max-windows", args.max_windows, "--json", out)
    rows = {}
    for r in json.loads(out.read_text())["rows"]:
        rows.setdefault(r["model"], {})[r["text"]] = r
    return [t.split("=")[0] for t in args.text], rows


def write_table(marker, lines):
    """Prints it, and writes it into the page between `<!-- marker -->` and the next `<!-- end -->`, where it has them."""
    table = "\n".join(lines) + "\n"
    print(table)
    begin = f"<!-- {marker} -->\n"
    page = PAGE.read_text()
    if begin in page:
        at = page.index(begin) + len(begin)
        PAGE.write_text(page[:at] + table + page[page.index("<!-- end -->", at):])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--text", action="append", required=True, help="NAME=FILE")
    parser.add_argument("--max-windows", type=int, default=32)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/fit_peers")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    files = make_files(args.source, args.folder)
    texts, rows = compare(files, args)
    head = "| file | MB |" + "".join(f" {t}: Thimble | llama.cpp | ratio |" for t in texts)
    lines = [head, "|---|---|" + "---|---|---|" * len(texts)]
    pairs = [(f"{mix} fit", f"{mix} llama.cpp, imatrix", f"size of {mix}") for mix in MIXES]
    pairs += [("Q4_K_M gptq", "Q4_K_M llama.cpp, imatrix", "the types of Q4_K_M"),
              ("0.85 fit", "Q4_K_M llama.cpp, imatrix", "85 % of Q4_K_M")]
    for label, against, title in pairs:
        cells = row(texts, rows, label, against)
        lines.append(f"| {title} | {files[label].stat().st_size / 1e6:.1f} | " + " | ".join(cells) + " |")
    lines += ["", "| llama.cpp without a matrix | MB |" + "".join(f" {t} |" for t in texts), "|---|---|" + "---|" * len(texts)]
    for mix in MIXES:
        label = f"{mix} llama.cpp"
        cells = [f"{rows[label][t]['kld_mean']:.4f}" for t in texts]
        lines.append(f"| {mix} | {files[label].stat().st_size / 1e6:.1f} | " + " | ".join(cells) + " |")

    text = pathlib.Path(args.text[0].split("=", 1)[1])
    lines += ["", f"| perplexity of {texts[0]} | Thimble | llama.cpp | difference |", "|---|---|---|---|"]
    for label in [f"{mix} fit" for mix in MIXES] + ["Q4_K_M gptq"]:
        with LlamaModel(files[label], kv="f16") as model:
            theirs = model.perplexity(text.read_text(), args.max_windows)[0]
        ours = rows[label][texts[0]]["ppl"]
        lines.append(f"| {label} | {ours:.3f} | {theirs:.3f} | {100 * (theirs / ours - 1):+.2f} % |")
    lines += ["", *speed_table(args.source, args.folder)]
    write_table("bench/fit_peers.py", lines)


if __name__ == "__main__":
    main()
