#!/usr/bin/env python3
"""Decoding while another process keeps one core busy: two cores, of which one is shared with a process that never sleeps.

  bench/load.py [MODEL.gguf]        default: SmolLM2 as Q4_K_M; needs make peers for llama.cpp's figures

Prints the rates with 1 and 2 threads, idle and under load, and how much of the rate with 1 thread 2 threads keep; fails
where Thimble keeps less than --bar of it. The load is pinned to the second core; with --roam the system may move it.
"""
import argparse
import contextlib
import os
import pathlib
import subprocess
import sys

from peer_programs import LLAMA_PEER, Llama, median, smollm2, thimble_bench


@contextlib.contextmanager
def busy(cores):
    """A process that never sleeps, on these cores."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.sched_setaffinity(process.pid, cores)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=pathlib.Path)
    parser.add_argument("-n", "--n-gen", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bar", type=float, default=0.8)
    parser.add_argument("--roam", action="store_true", help="don't pin the load to one core")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("needs two cores")
    os.sched_setaffinity(0, cores)  # inherited by all that is started here
    model = args.model or smollm2("Q4_K_M")
    load = set(cores if args.roam else cores[1:])

    with contextlib.ExitStack() as stack:
        programs = {"Thimble": lambda t: thimble_bench(model, t, 0, args.n_gen)["tg"]["median_ts"]}
        if LLAMA_PEER.exists():
            llamas = {t: stack.enter_context(Llama(model, t, True)) for t in (1, 2)}
            programs["llama.cpp"] = lambda t: llamas[t].rate("tg", args.n_gen)
        rates = {(p, t, l): [] for p in programs for t in (1, 2) for l in (False, True)}
        for _ in range(args.rounds):
            for loaded in (False, True):
                with busy(load) if loaded else contextlib.nullcontext():
                    for name, rate in programs.items():
                        for threads in (1, 2):
                            rates[name, threads, loaded].append(rate(threads))
    good = True
    for name in programs:
        r = {key[1:]: median(values) for key, values in rates.items() if key[0] == name}
        kept = r[2, True] / r[1, False]
        print(f"{name:9}: idle {r[1, False]:6.1f} tokens/s with 1 thread, {r[2, False]:6.1f} with 2; under load {r[1, True]:6.1f} "
              f"and {r[2, True]:6.1f}: 2 threads keep {100 * kept:.0f} % of 1 idle, {100 * r[2, True] / r[1, True]:.0f} % of 1 under "
              f"load", flush=True)
        good &= name != "Thimble" or kept >= args.bar
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
