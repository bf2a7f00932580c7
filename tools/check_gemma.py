#!/usr/bin/env python3
"""Gemma 3 270M: its perplexity here against llama.cpp's, on the same tokens. Fails beyond 0.5 %.

  python3 tools/fetch_model.py gemma
  bench/peers/venv/bin/python tools/check_gemma.py [--text FILE] [--chunks N]     (tools/setup_peers.sh makes the venv)

Both measure with their defaults (activations rounded to int8). Other options are those of
tools/check_llama_cpp.py.
"""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/gemma-3-270m-Q4_K_M.gguf"


def main():
    if not MODEL.exists():
        sys.exit(f"{MODEL.name} is not there: python3 tools/fetch_model.py gemma")
    wikitext = ROOT.parent / "shared/data/wikitext-2/valid.txt"
    text = wikitext if wikitext.exists() else ROOT / "examples/demo/eval_text.txt"
    given = sys.argv[1:]
    command = [sys.executable, ROOT / "tools/check_llama_cpp.py", MODEL, "--bar", "0.5"]
    for option, value in (("--text", text), ("--chunks", "20"), ("--thimble", ROOT / "build/release/bin/thimble")):
        if option not in given:
            command += [option, value]
    return subprocess.run([str(part) for part in command + given]).returncode


if __name__ == "__main__":
    sys.exit(main())
