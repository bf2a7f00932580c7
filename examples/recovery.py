#!/usr/bin/env python3
"""What a recovery adapter gives back: SmolLM2 at about 3 bits, taught on some articles and measured on others.

  examples/recovery.py TEXT            TEXT: articles in WikiText's form, each under a line " = Title = "

Rounds the model (IQ3_XXS with an importance matrix), distils the F16 model into it on the first 70 % of the articles, and prints
the KL divergence on the others without and with the adapter. Needs a processor with BF16, or --compute int8. Takes half an hour on two cores.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build/release/bin/thimble"


def run(*command):
    print("$", *command, file=sys.stderr, flush=True)
    subprocess.run(list(map(str, command)), check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/recovery")
    parser.add_argument("--tokens", type=int, default=98304, help="to learn and calibrate from (default: %(default)s)")
    parser.add_argument("--compute", default="bf16")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    original = subprocess.run([sys.executable, ROOT / "tools/fetch_model.py", "smollm2"], check=True, text=True, capture_output=True)
    articles = re.split(r"(?m)^(?= = [^=].* = $)", args.text.read_text(encoding="utf-8"))
    n_learned = int(0.7 * len(articles))
    learned, kept = args.out / "learned.txt", args.out / "kept.txt"
    learned.write_text("\n---\n".join(article.strip() for article in articles[:n_learned] if article.strip()) + "\n", encoding="utf-8")
    kept.write_text("".join(articles[n_learned:]), encoding="utf-8")

    teacher, small, adapter = args.out / "f16.gguf", args.out / "iq3_xxs.gguf", args.out / "adapter"
    run(PROGRAM, "dequantize", ROOT / original.stdout.strip(), "-o", teacher, "--type", "F16")
    run(PROGRAM, "quantize", teacher, "-o", small, "--type", "IQ3_XXS", "--method", "imatrix")
    run(PROGRAM, "recover", small, "--teacher", teacher, "-o", adapter, "--compute", args.compute, "--calibration", f"articles={learned}",
        "--calibration-tokens", args.tokens, "--epochs", 3, "--batch-size", 4)
    for flags in ([], ["--adapter", adapter]):
        run(PROGRAM, "eval", small, *flags, "--reference", teacher, "--text", kept, "--max-windows", 12)


if __name__ == "__main__":
    main()
