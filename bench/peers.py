#!/usr/bin/env python3
"""Thimble against its peers on the same files and threads, in turns, so that whatever else the machine does meets both.

  make bench-peers                     sets up the peers, then runs this; --quick for the rows that matter most
  bench/peers.py --only speed          one of the parts: speed, int8, start, openvino

Writes the tables between the markers of docs/performance.md and docs/int8.md, and all figures to out/bench/peers.json. A ratio is the
median over the rounds of ours / llama.cpp's of that round; llama.cpp is run with and without its repacked weights, and
the better counts, for each test apart. Both programs are C++ processes that hold nothing but the model.
"""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time

from peer_programs import (BIN, LLAMA_PEER, N_GEN, N_PROMPT, OPENVINO_PYTHON, ROOT, SMOLLM2, Llama, load_average, machine, median,
                           random_model, run, seconds, smollm2, thimble_bench)

SMOLLM2_TYPES = ("Q4_0", "Q8_0", "Q4_K_M", "Q6_K", "IQ4_XS", "Q5_0", "BF16", "F16")
RANDOM_TYPES = ("Q4_0", "Q8_0", "Q4_K_M")
# The bars of decoding and reading a prompt, as ratios to llama.cpp.
SMOLLM2_BARS = {"Q4_0": (1.5, 2), "Q8_0": (1.5, 2), "Q4_K_M": (1.7, 2), "Q6_K": (1.7, None), "BF16": (None, 1.3),
                "F16": (None, 1.8)}
RANDOM_BARS = (1.15, 2)
BEGIN, END = "<!-- bench/peers.py: begin -->", "<!-- bench/peers.py: end -->"
PROMPT = "The three most important things to know about the moon are"


def say(*words):
    print(*words, flush=True)


def plan(args):
    """(model's name, type, file, the bars, rounds)"""
    if args.quick:
        rows = [("SmolLM2-135M", t, smollm2(t)) for t in ("Q4_0", "Q8_0", "Q4_K_M")]
        rows += [("1B shape", "Q4_0", random_model("1B", "Q4_0"))]
    else:
        rows = [("SmolLM2-135M", t, smollm2(t)) for t in SMOLLM2_TYPES]
        rows += [("1B shape", t, random_model("1B", t)) for t in RANDOM_TYPES]
    for name, mix, path in rows:
        small = name != "1B shape"
        yield (name, mix, path, SMOLLM2_BARS.get(mix, (None, None)) if small else RANDOM_BARS,
               args.rounds if small else max(2, args.rounds // 2), N_GEN if small else 32)


def compare(path, threads, rounds, n_gen):
    """{"pp": figures, "tg": figures, "rss": figures} of one file."""
    tests = (("pp", N_PROMPT), ("tg", n_gen))
    ours, theirs = [], []
    with Llama(path, threads, True) as repacked, Llama(path, threads, False) as plain:
        rivals = {what: [repacked, plain] for what, _ in tests}
        for llama in (repacked, plain):
            llama.rate("pp", N_PROMPT), llama.rate("tg", 1)
        for _ in range(rounds):
            ours.append(thimble_bench(path, threads, n_gen=n_gen))
            theirs.append({what: {llama.name: llama.rate(what, n) for llama in rivals[what]} for what, n in tests})
            for what, _ in tests:  # one that is clearly slower need not be run again
                best = max(theirs[-1][what].values())
                rivals[what] = [llama for llama in rivals[what] if theirs[-1][what][llama.name] > 0.93 * best]
        out = {}
        for what, _ in tests:
            bests = [max(r[what].values()) for r in theirs]
            rates = [r[what]["median_ts"] for r in ours]
            out[what] = dict(thimble=median(rates), llama_cpp=median(bests), share=median(r[what]["share_of_bound"] for r in ours),
                             ratio=median(a / b for a, b in zip(rates, bests)), thimble_rounds=rates, llama_cpp_rounds=theirs and
                             [r[what] for r in theirs], llama_cpp_is=max(theirs[-1][what], key=theirs[-1][what].get))
        used = next(llama for llama in (repacked, plain) if llama.name == out["tg"]["llama_cpp_is"])
        out["rss"] = dict(thimble=max(r["tg"]["peak_rss_bytes"] for r in ours), llama_cpp=used.peak_rss)
    return out, ours[-1]["tg"]


def speed(args):
    rows, bounds = [], {}
    for name, mix, path, bars, rounds, n_gen in plan(args):
        for threads in args.threads:
            figures, last = compare(path, threads, rounds, n_gen)
            bounds[threads] = {k: last[k] for k in ("read_ordinary_bytes_per_second", "read_huge_bytes_per_second",
                                                    "int8_multiply_adds_per_second", "kernels")}
            rows.append(dict(model=name, type=mix, threads=threads, bars=bars, file_bytes=path.stat().st_size, **figures))
            say(f"{name} {mix}, {threads} threads: " + "; ".join(
                f"{label} {figures[k]['thimble']:.1f} / {figures[k]['llama_cpp']:.1f} = {figures[k]['ratio']:.2f}x "
                f"({100 * figures[k]['share']:.0f} % of the bound)" for k, label in (("tg", "decode"), ("pp", "prefill"))))
    return dict(rows=rows, bounds=bounds)


def int8_against_f32(args):
    """Our own INT8 (Q8_0) against our own F32, on SmolLM2."""
    paths = {"F32": smollm2("F32"), "Q8_0": smollm2("Q8_0")}
    rows = []
    for threads in args.threads:
        rounds = [{mix: thimble_bench(path, threads) for mix, path in paths.items()} for _ in range(max(2, args.rounds // 2))]
        row = dict(threads=threads, f32_bytes=paths["F32"].stat().st_size,
                   size=paths["F32"].stat().st_size / paths["Q8_0"].stat().st_size)
        for what in ("pp", "tg"):
            row[what] = {mix: median(r[mix][what]["median_ts"] for r in rounds) for mix in paths}
            row[what]["ratio"] = median(r["Q8_0"][what]["median_ts"] / r["F32"][what]["median_ts"] for r in rounds)
        row["rss"] = {mix: max(r[mix]["tg"]["peak_rss_bytes"] for r in rounds) for mix in paths}
        rows.append(row)
        say(f"INT8 / F32, {threads} threads: decode {row['tg']['ratio']:.2f}x, prefill {row['pp']['ratio']:.2f}x, size 1/{row['size']:.2f}, "
            f"memory 1/{row['rss']['F32'] / row['rss']['Q8_0']:.2f}")
    return rows


def start(args):
    """Seconds from a new process to the end of its first token."""
    rows = []
    for mix in ("Q4_0",) if args.quick else ("Q4_0", "Q8_0", "Q4_K_M"):
        path = smollm2(mix)
        for threads in args.threads:
            ours, theirs = [], []
            for _ in range(1 + args.rounds):
                ours.append(seconds(BIN / "thimble", "run", path, "--raw", "-p", PROMPT, "-n", 1, "--temp", 0, "-q", "-t", threads))
                theirs.append(min(seconds(LLAMA_PEER, "first", path, threads, 512, repack, PROMPT) for repack in (0, 1)))
            row = dict(type=mix, threads=threads, thimble=median(ours[1:]), llama_cpp=median(theirs[1:]),
                       ratio=median(a / b for a, b in zip(ours[1:], theirs[1:])))
            rows.append(row)
            say(f"first token, {mix}, {threads} threads: {row['thimble']:.3f} s / {row['llama_cpp']:.3f} s = {row['ratio']:.2f}")
    return rows


def openvino(args):
    """OpenVINO GenAI on the Q4_1 file, which is what it reads best; it always uses all cores."""
    if not OPENVINO_PYTHON.exists():
        say("OpenVINO GenAI is not there: tools/setup_peers.sh --openvino")
        return None
    threads = len(os.sched_getaffinity(0))
    ours, theirs = [], []
    for _ in range(max(2, args.rounds // 2)):
        ours.append(thimble_bench(SMOLLM2, threads))
        theirs.append(json.loads(run(OPENVINO_PYTHON, ROOT / "bench/openvino_peer.py", SMOLLM2).splitlines()[-1]))
    row = dict(threads=threads)
    for what in ("pp", "tg"):
        row[what] = dict(thimble=median(r[what]["median_ts"] for r in ours), openvino=median(r[what] for r in theirs),
                         ratio=median(a[what]["median_ts"] / b[what] for a, b in zip(ours, theirs)))
    row["rss"] = dict(thimble=max(r["tg"]["peak_rss_bytes"] for r in ours), openvino=max(r["peak_rss_bytes"] for r in theirs))
    say(f"OpenVINO GenAI, Q4_1, {threads} threads: prefill {row['pp']['ratio']:.2f}x, decode {row['tg']['ratio']:.2f}x")
    return row


PARTS = dict(speed=speed, int8=int8_against_f32, start=start, openvino=openvino)


def mark(value, bar, fmt="{:.2f}x"):
    """A ratio, bold where it misses its bar."""
    text = fmt.format(value)
    return text if bar is None or value >= bar else f"**{text}** (bar {bar:g})"


def markdown(results):
    head = results["about"]
    lines = [f"Measured {head['date']} on {head['machine']}; kernels {head['kernels']}; Thimble {head['thimble']}, llama.cpp in "
             f"llama-cpp-python {head['llama_cpp']} ({head['llama_cpp_isa']}); load of the machine before {head['load']:.1f}"
             f"{', a reduced run (--quick)' if head['quick'] else ''}. Bold: below its bar.", ""]
    if "speed" in results:
        for threads, b in sorted(results["speed"]["bounds"].items()):
            lines.append(f"- {threads} thread{'s' if int(threads) > 1 else ''}: memory is read at "
                         f"{b['read_ordinary_bytes_per_second'] / 1e9:.1f} GB/s in ordinary pages, "
                         f"{b['read_huge_bytes_per_second'] / 1e9:.1f} GB/s in huge pages; int8 at best "
                         f"{b['int8_multiply_adds_per_second'] / 1e9:.0f} G multiply-adds/s.")
        lines += ["", "| model | type | threads | decode, tokens/s | llama.cpp | ratio | of the memory's bandwidth | prefill of 512, "
                  "tokens/s | llama.cpp | ratio | of the int8 peak | peak memory, MB | llama.cpp |",
                  "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
        for r in results["speed"]["rows"]:
            tg, pp, rss = r["tg"], r["pp"], r["rss"]
            share = f"{100 * pp['share']:.0f} %" if pp["share"] and r["type"] not in ("BF16", "F16") else ""
            lines.append(f"| {r['model']} | {r['type']} | {r['threads']} | {tg['thimble']:.1f} | {tg['llama_cpp']:.1f} | "
                         f"{mark(tg['ratio'], r['bars'][0])} | {100 * tg['share']:.0f} % | {pp['thimble']:.0f} | {pp['llama_cpp']:.0f} | "
                         f"{mark(pp['ratio'], r['bars'][1])} | {share} | {rss['thimble'] / 1e6:.0f} | {rss['llama_cpp'] / 1e6:.0f} |")
    if "int8" in results:
        lines += ["", "INT8 (Q8_0) against our own F32 on SmolLM2-135M:", "",
                  "| threads | size | decode | prefill | peak memory |", "|---:|---:|---:|---:|---:|"]
        lines += [f"| {r['threads']} | 1/{r['size']:.2f} | {mark(r['tg']['ratio'], 3)} | {mark(r['pp']['ratio'], 3)} | "
                  f"1/{r['rss']['F32'] / r['rss']['Q8_0']:.2f} |" for r in results["int8"]]
    if "start" in results:
        lines += ["", "From the start of a process to the end of its first token (warm page cache), SmolLM2-135M:", "",
                  "| type | threads | Thimble, s | llama.cpp, s | ratio |", "|---|---:|---:|---:|---:|"]
        lines += [f"| {r['type']} | {r['threads']} | {r['thimble']:.3f} | {r['llama_cpp']:.3f} | "
                  f"{r['ratio']:.2f}{'' if r['ratio'] < 0.5 else ' (bar 0.5)'} |" for r in results["start"]]
    if results.get("openvino"):
        r = results["openvino"]
        lines += ["", f"OpenVINO GenAI {head['openvino']} on SmolLM2's Q4_1 file, {r['threads']} threads: prefill "
                  f"{r['pp']['thimble']:.0f} / {r['pp']['openvino']:.0f} tokens/s = {mark(r['pp']['ratio'], 2)}, decode "
                  f"{r['tg']['thimble']:.1f} / {r['tg']['openvino']:.1f} = {r['tg']['ratio']:.2f}x, peak memory "
                  f"{r['rss']['thimble'] / 1e6:.0f} / {r['rss']['openvino'] / 1e6:.0f} MB (with its Python)."]
    return "\n".join(lines)


def types_against_f32(results):
    """Every type of SmolLM2 against our own F32 of the same run."""
    head = results["about"]
    f32 = {row["threads"]: row for row in results["int8"]}
    lines = [f"Measured {head['date']} on {head['machine']}; kernels {head['kernels']}; SmolLM2-135M, prefill of {N_PROMPT} and "
             f"decoding of {N_GEN} tokens; all are ratios to F32 ({f32[1]['f32_bytes'] / 1e6:.0f} MB).", "",
             "| type | bits per weight | size | decode, 1 / 2 threads | prefill, 1 / 2 threads | peak memory, 1 / 2 threads |",
             "|---|---:|---:|---:|---:|---:|"]
    by_type = {}
    for row in results["speed"]["rows"]:
        if row["model"] == "SmolLM2-135M":
            by_type.setdefault(row["type"], {})[row["threads"]] = row
    for mix, rows in by_type.items():
        def both(ratio):
            return " / ".join(f"{ratio(rows[t], f32[t]):.2f}x" for t in sorted(rows) if t in f32)
        size = f32[1]["f32_bytes"] / rows[1]["file_bytes"]
        lines.append(f"| {mix} | {32 / size:.2f} | 1/{size:.2f} | {both(lambda r, f: r['tg']['thimble'] / f['tg']['F32'])} | "
                     f"{both(lambda r, f: r['pp']['thimble'] / f['pp']['F32'])} | "
                     + " / ".join(f"1/{f32[t]['rss']['F32'] / rows[t]['rss']['thimble']:.2f}" for t in sorted(rows)) + " |")
    return "\n".join(lines)


def about(args):
    python = ROOT / "bench/peers/venv/bin/python"
    version = "import importlib.metadata as m; print(m.version('%s'))"
    isa = run(LLAMA_PEER, "system-info")
    return dict(
        date=datetime.date.today().isoformat(), machine=machine(), load=load_average(), quick=args.quick,
        kernels=thimble_bench(SMOLLM2, 1, 16, 0)["pp"]["kernels"], thimble=run(BIN / "thimble", "--version").split()[-1],
        llama_cpp=run(python, "-c", version % "llama_cpp_python").strip(),
        llama_cpp_isa=" ".join(part.split("=")[0].strip() for part in isa.split(":", 1)[-1].split("|") if "= 1" in part),
        openvino=run(OPENVINO_PYTHON, "-c", version % "openvino_genai").strip() if OPENVINO_PYTHON.exists() else None)


def insert(page, text):
    """Replaces what stands between the markers; the prose around stays."""
    old = page.read_text(encoding="utf-8") if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    if BEGIN not in old or END not in old:
        sys.exit(f"{page}: the markers {BEGIN} and {END} are missing")
    page.write_text(old[:old.index(BEGIN) + len(BEGIN)] + "\n" + text + "\n" + old[old.index(END):], encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Q4_0, Q8_0 and Q4_K_M on SmolLM2, Q4_0 on the 1B shape")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; repeatable")
    parser.add_argument("--rounds", type=int, help="default: 5, or 3 with --quick")
    parser.add_argument("-t", "--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "docs/performance.md")
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "out/bench/peers.json")
    parser.add_argument("--dry-run", action="store_true", help="print the tables, don't touch the page")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)

    began = time.time()
    results = dict(about=about(args))
    if results["about"]["load"] > 1:
        say(f"the machine is busy (load {results['about']['load']:.1f}): the ratios are worth little")
    for name in args.only or PARTS:
        results[name] = PARTS[name](args)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.dry_run:
        print(markdown(results))
    else:
        insert(args.page, markdown(results))
        if "speed" in results and "int8" in results:
            insert(ROOT / "docs/int8.md", types_against_f32(results))
    say(f"{(time.time() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
