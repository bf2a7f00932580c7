#!/usr/bin/env python3
"""Checks that tokenizer.json as Thimble writes it means the same to Hugging Face's tokenizers as the GGUF means to
Thimble, and says how fast tokenizers is on one thread (our rate: text_bench).

Needs: tools/setup_peers.sh, tools/fetch_model.py smollm2 gemma. Then:
  bench/peers/venv/bin/python tools/check_tokenizers.py [--thimble build/release/bin/thimble]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402: after the setting

from make_tokenizer_goldens import ROOT, TEXTS  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thimble", default=ROOT / "build/release/bin/thimble", type=pathlib.Path)
    parser.add_argument("models", nargs="*", type=pathlib.Path,
                        default=sorted((ROOT / "models").glob("*.gguf")))
    args = parser.parse_args()
    texts = [text for text in TEXTS if "\0" not in text]
    long_text = ROOT.parent / "shared/data/wikitext-2/valid.txt"
    if long_text.exists():
        texts.append(long_text.read_text(encoding="utf-8"))
    failures = 0
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "hf"
            subprocess.run([args.thimble, "convert", model, "-o", out], check=True, stdout=subprocess.DEVNULL)
            theirs = Tokenizer.from_file(str(out / "tokenizer.json"))
            wrong = []
            for text in texts:
                case = pathlib.Path(folder) / "text"
                case.write_bytes(text.encode())
                for path in [model, out]:
                    ours = json.loads(subprocess.run([args.thimble, "tokenize", path, "--file", case, "--json"], check=True,
                                                     capture_output=True).stdout)
                    if ours != theirs.encode(text).ids:
                        wrong.append((path.name, text[:60]))
        print(f"{model.name}: {len(texts) - len({text for _, text in wrong})} of {len(texts)} texts agree")
        for name, text in wrong:
            print(f"  differs ({name}): {text!r}")
        failures += len(wrong)
        if long_text.exists():
            start = time.process_time()
            theirs.encode(texts[-1])
            seconds = time.process_time() - start
            print(f"  tokenizers on one thread, by CPU time: {len(texts[-1].encode()) / seconds / 1e6:.1f} MB/s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
