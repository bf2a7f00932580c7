#!/usr/bin/env python3
"""Speed and memory of a LoRA training step: Thimble and PyTorch + PEFT on the same text, one after the other.

  bench/peers/venv/bin/python bench/train.py [MODEL.gguf]        default: models/SmolLM2-135M-Instruct.Q4_1.gguf

All linear layers, rank 8, AdamW, every token learned. PEFT trains the model in F32, and with --all-peers also under tcmalloc,
in BF16 and compiled; Thimble trains on the file as it is, with --compute f32, int8 and, where the processor has instructions for
it, bf16, and the last of these with checkpointing. The losses of the first step, where the adapters still do nothing, must agree. Figures
are the median over the steps after the first, and the peak of the resident memory of each process.

Needs: make peers (tools/setup_peers.sh).
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = ("the thimble needle thread holds and torch lamp on off please river stone window seven letters morning quiet in of a "
         "with under over paper garden slowly writes small large then when because we they it is was").split()


TCMALLOC = "libtcmalloc_minimal.so.4"
PEERS = {"F32": [], "F32, tcmalloc": [], "BF16, tcmalloc": ["--bf16"], "F32 compiled, tcmalloc": ["--compile"]}


def run(command, **env):
    """Standard output, and the peak memory of the process in bytes."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, env={**os.environ, **env})
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return output, usage.ru_maxrss * 1024


def thimble(args, data, scratch, compute, *flags):
    out = scratch / f"out-{compute}-{len(flags)}"
    _, rss = run([args.thimble, "tune", args.model, "--data", data, "-o", out, "--compute", compute, "--batch-size",
                  args.batch_size, "--max-seq-length", args.seq_length, "--rank", 8, "--lora-alpha", 16, "--lr", "1e-4",
                  "--lr-scheduler", "constant", "--max-steps", args.steps + 1, "--threads", args.threads, *flags])
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    rates = [e["tokens"] / e["seconds"] for e in log[1:]]
    return dict(program=" ".join(["thimble tune --compute", compute, *flags]), tokens_per_second=statistics.median(rates),
                peak_rss_bytes=rss, first_loss=log[0]["loss"], last_loss=log[-1]["loss"])


def multiplies_bf16(args):
    command = [args.thimble, "logits", args.model, "--ids", "1", "--compute", "bf16"]
    return subprocess.run(list(map(str, command)), capture_output=True).returncode == 0


def peft(args, data, folder, name):
    output, rss = run([sys.executable, ROOT / "bench/train_peer.py", folder, "--threads", args.threads, "--batch-size",
                       args.batch_size, "--seq-length", args.seq_length, "--steps", args.steps, "--data", data, *PEERS[name]],
                      **(dict(LD_PRELOAD=TCMALLOC) if "tcmalloc" in name else {}))
    result = json.loads(output)
    return dict(program="PyTorch + PEFT, " + name, tokens_per_second=result["tokens_per_second"], peak_rss_bytes=rss,
                first_loss=result["losses"][0], last_loss=result["losses"][-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=pathlib.Path, default=ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--thimble", type=pathlib.Path, default=ROOT / "build/release/bin/thimble")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seq-length", type=int, default=256)
    parser.add_argument("--all-peers", action="store_true", help=f"needs {TCMALLOC} and a compiler")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    args = parser.parse_args()

    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        data, folder = scratch / "data.jsonl", scratch / "f32"
        n = (args.steps + 1) * args.batch_size
        data.write_text(n * (json.dumps(dict(text=" ".join(generator.choices(WORDS, k=args.seq_length)))) + "\n"))
        run([sys.executable, ROOT / "tools/reference_model.py", args.model, folder])
        results = [peft(args, data, folder, name) for name in (PEERS if args.all_peers else ["F32"])]
        computes = ["f32", "int8"] + (["bf16"] if multiplies_bf16(args) else [])
        results += [thimble(args, data, scratch, compute) for compute in computes]
        results.append(thimble(args, data, scratch, computes[-1], "--gradient-checkpointing"))
    peer = results[0]
    print(f"{args.batch_size} x {args.seq_length} tokens per step, {args.threads} threads, {args.model.name}")
    for r in results:
        r["speed_ratio"] = r["tokens_per_second"] / peer["tokens_per_second"]
        r["memory_ratio"] = r["peak_rss_bytes"] / peer["peak_rss_bytes"]
        print(f"{r['program']:55} {r['tokens_per_second']:7.0f} tokens/s ({r['speed_ratio']:.2f}x) "
              f"{r['peak_rss_bytes'] / 1e9:6.2f} GB ({r['memory_ratio']:.2f}x)  first loss {r['first_loss']:.4f}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
