#!/usr/bin/env python3
"""llama.cpp's speed on a GGUF through its C functions, measured as its own llama-bench does: the prompt in one go, and
single tokens, each from an empty cache. Prints one JSON object: prefill_tokens_per_second, decode_tokens_per_second
(medians of the repetitions, after one that isn't counted), peak_rss_bytes, and every repetition's figure.

Needs: pip install llama-cpp-python==0.3.36 numpy
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
from llama_cpp_api import LlamaModel  # noqa: E402


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("-p", "--n-prompt", type=int, default=512)
    parser.add_argument("-n", "--n-gen", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("-r", "--repeat", type=int, default=5)
    parser.add_argument("--kv", choices=("f16", "f32"), default="f16")
    args = parser.parse_args()

    prefill, decode = [], []
    with LlamaModel(args.model, n_ctx=max(args.n_prompt, args.n_gen, 32), n_threads=args.threads, kv=args.kv) as model:
        rng = np.random.default_rng(0)
        prompt = rng.integers(0, model.n_vocab, max(args.n_prompt, 1))
        tokens = rng.integers(0, model.n_vocab, args.n_gen)

        def run_prompt():
            model.clear()
            model.decode(prompt, first_output=len(prompt) - 1)

        def run_generation():
            model.clear()
            for i, token in enumerate(tokens):
                model.decode([token], position=i)

        for _ in range(args.repeat + 1):
            if args.n_prompt:
                prefill.append(args.n_prompt / seconds(run_prompt))
            if args.n_gen:
                decode.append(args.n_gen / seconds(run_generation))
    result = dict(program="llama.cpp", model=str(args.model), threads=args.threads, n_prompt=args.n_prompt,
                  n_gen=args.n_gen, peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    for name, rates in (("prefill", prefill[1:]), ("decode", decode[1:])):
        if rates:
            result[f"{name}_tokens_per_second"] = round(statistics.median(rates), 2)
            result[f"{name}_repetitions"] = [round(r, 2) for r in rates]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
