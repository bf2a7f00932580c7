#!/usr/bin/env python3
"""Perplexity of GGUF files in llama.cpp, compared with `thimble eval --json`.

Windows and scoring are those of llama.cpp's own perplexity tool with its defaults: windows of 512 tokens that do not
overlap, BOS in each window's first place where the vocabulary asks for it, the second half of each window scored.

  check_llama_cpp.py a.gguf b.gguf --text wiki.txt                            prints llama.cpp's figures
  check_llama_cpp.py a.gguf b.gguf --text wiki.txt --eval a.json b.json       and fails beyond 0.3 %
  check_llama_cpp.py a.gguf --text wiki.txt --thimble build/release/bin/thimble    runs thimble eval itself
  check_llama_cpp.py f16.gguf ... --thimble ... --quantize all --chunks 4     of what thimble quantize makes of it

Needs: pip install llama-cpp-python==0.3.36 numpy
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from llama_cpp_api import LlamaModel  # noqa: E402


def run_thimble(args, path, text):
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "eval.json"
        subprocess.run([args.thimble, "eval", str(path), "--text", str(text), "--json", str(out)], check=True,
                       stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


TYPES = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS".split()


def files_of(args, scratch):
    """The files to compare: those given, or one after another what thimble quantize makes of them."""
    for path in args.gguf:
        if not args.quantize:
            yield path
        for name in TYPES if args.quantize == ["all"] else args.quantize or []:
            out = pathlib.Path(scratch) / f"{path.stem}.{name}.gguf"
            subprocess.run([args.thimble, "quantize", path, "-o", out, "--type", name], check=True,
                           stdout=subprocess.DEVNULL)
            yield out
            out.unlink()


def whole_windows(model, text, n_chunks, n_ctx):
    """The shortest prefix of the text, cut at a line, that has n_chunks windows: both sides must see the same text."""
    lines = text.splitlines(keepends=True)
    low, high = 1, len(lines)
    while low < high:
        middle = (low + high) // 2
        if len(model.tokenize("".join(lines[:middle]))) // n_ctx >= n_chunks:
            high = middle
        else:
            low = middle + 1
    return "".join(lines[:low])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", nargs="+", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--eval", nargs="+", type=pathlib.Path, metavar="JSON",
                        help="what `thimble eval --json` wrote for each GGUF, in the same order")
    parser.add_argument("--thimble", help="run this binary's eval on each GGUF instead of reading --eval")
    parser.add_argument("--quantize", nargs="+", metavar="TYPE",
                        help=f"compare the GGUF quantized by Thimble to each type; all: {' '.join(TYPES)}")
    parser.add_argument("--bar", type=float, default=0.3, help="largest difference in %% (default 0.3)")
    parser.add_argument("-c", "--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, help="only so many windows (with --eval: of the same prefix)")
    parser.add_argument("--save-text", type=pathlib.Path, help="write the prefix that --chunks chose, for thimble eval")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--kv", choices=("f16", "f32"), default="f16", help="KV cache; llama.cpp's default is f16")
    parser.add_argument("--json", type=pathlib.Path, help="write the results")
    args = parser.parse_args()
    if args.eval and len(args.eval) != len(args.gguf):
        parser.error("--eval needs one JSON per GGUF")
    if args.quantize and not args.thimble:
        parser.error("--quantize needs --thimble")

    text = args.text.read_text(encoding="utf-8")
    results, failed = [], False
    with tempfile.TemporaryDirectory() as scratch:
        for i, path in enumerate(files_of(args, scratch)):
            with LlamaModel(path, n_ctx=args.ctx, n_threads=args.threads, kv=args.kv) as model:
                part, part_path = text, args.text
                if args.chunks:
                    part = whole_windows(model, text, args.chunks, args.ctx)
                    part_path = args.save_text or pathlib.Path(scratch) / "text.txt"
                    part_path.write_text(part, encoding="utf-8")
                start = time.time()
                ppl, se, n = model.perplexity(part, args.chunks, progress=sys.stderr.isatty())
                result = dict(file=str(path), ppl=ppl, ppl_se=se, n_tokens=n, seconds=round(time.time() - start, 1))
            ours = json.loads(args.eval[i].read_text()) if args.eval else None
            if args.thimble:
                ours = run_thimble(args, path, part_path)
            line = f"{path.name}: llama.cpp PPL {ppl:.4f} +- {se:.4f} over {n} tokens"
            if ours:
                result["thimble_ppl"] = ours["ppl"]
                difference = 100 * abs(ours["ppl"] / ppl - 1)
                good = difference <= args.bar
                if ours.get("n_tokens", n) != n:
                    good = False
                    line += f"; Thimble scored {ours['n_tokens']} tokens"
                failed |= not good
                line += f"; Thimble {ours['ppl']:.4f} ({difference:.3f} % off): {'ok' if good else 'FAILED'}"
            print(line, flush=True)
            results.append(result)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
