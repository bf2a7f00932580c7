#!/usr/bin/env python3
"""Thimble's speed against llama.cpp's on the same GGUF: both read a prompt in one go and write single tokens, in turns
on the same threads, so that whatever else the machine does meets both. Prints the median rates and their ratio.

  tools/setup_peers.sh                                     once: the Python environment with llama-cpp-python
  build/release/bin/thimble dequantize models/SmolLM2-135M-Instruct.Q4_1.gguf -o build/smollm2.f16.gguf --type F16
  build/release/bin/thimble quantize build/smollm2.f16.gguf -o build/smollm2.q4_0.gguf --type Q4_0
  bench/decode.py build/smollm2.q4_0.gguf                  fails where decoding is below --bar of llama.cpp's rate

The rounds alternate: thimble bench, then bench/decode_peer.py, each with one repetition that is not counted.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def measure(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="a GGUF, best of type Q4_0")
    parser.add_argument("--thimble", type=pathlib.Path, default=ROOT / "build/release/bin/thimble")
    parser.add_argument("--peer-python", type=pathlib.Path, default=ROOT / "bench/peers/venv/bin/python")
    parser.add_argument("-t", "--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("-p", "--n-prompt", type=int, default=512)
    parser.add_argument("-n", "--n-gen", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bar", type=float, default=0.5, help="smallest ratio of the decoding rates (default 0.5)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    args = parser.parse_args()

    results, good = [], True
    for threads in args.threads:
        sizes = ["-p", args.n_prompt, "-n", args.n_gen, "-r", 1, "-t", threads]
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(measure([args.thimble, "bench", args.model, *sizes, "--json"]))
            theirs.append(measure([args.peer_python, ROOT / "bench/decode_peer.py", args.model, *sizes]))
        for what in ("prefill", "decode"):
            key = f"{what}_tokens_per_second"
            if key not in ours[0]:
                continue
            a, b = (statistics.median(run[key] for run in runs) for runs in (ours, theirs))
            ratios = sorted(x[key] / y[key] for x, y in zip(ours, theirs))
            results.append(dict(threads=threads, what=what, thimble=a, llama_cpp=b, ratio=statistics.median(ratios),
                                ratios=ratios, kernels=ours[0]["kernels"]))
            print(f"{threads} thread{'s' if threads > 1 else ''}, {what:7}: Thimble {a:8.1f} tokens/s, llama.cpp {b:8.1f}; "
                  f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
            if what == "decode":
                good &= statistics.median(ratios) >= args.bar
        memory = [max(run["peak_rss_bytes"] for run in runs) / 1e6 for runs in (ours, theirs)]
        print(f"{threads} thread{'s' if threads > 1 else ''}, peak memory: Thimble {memory[0]:.0f} MB, llama.cpp "
              f"{memory[1]:.0f} MB (with Python)", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(f"decoding is {'at least' if good else 'BELOW'} {args.bar:g} of llama.cpp's rate")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
