#!/usr/bin/env python3
"""Quality on every tier of kernels that this processor runs, for every weight type.

  tools/check_tiers.py F16.gguf [--types Q4_0 Q8_0 ...] [--text FILE] [--windows 24] [--baseline ref]

The perplexity of each tier must be within --bar (0.1 %) of the baseline's: ref, in double precision, takes some ten
minutes a type; --baseline avx2 compares the fast tiers with each other in seconds. Take many windows: a difference in
the last bit soon rounds other activations up or down, so that two tiers err alike but not equally, by half a percent
over a hundred tokens. And what rounding the activations costs by itself: the KL divergence of the deployed kernels from
the same file with activations in F32. Prints a Markdown table. `make build` comes first.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
THIMBLE = ROOT / "build/release/bin/thimble"
TYPES = "F16 BF16 Q8_0 Q6_K Q5_K_M Q5_0 Q5_1 Q4_K_M Q4_0 Q4_1 IQ4_NL IQ4_XS Q3_K_M Q2_K".split()


def thimble(*arguments, tier=None):
    env = dict(os.environ, **({"THIMBLE_ISA": tier} if tier else {}))
    done = subprocess.run([str(part) for part in (THIMBLE, *arguments)], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return done.stdout


def evaluate(model, text, windows, folder, tier=None, reference=None):
    out = folder / "eval.json"
    thimble("eval", model, "--text", text, "--chunks", windows, "--json", out,
            *(["--reference", reference] if reference else []), tier=tier)
    return json.loads(out.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=24, help="of 512 tokens")
    parser.add_argument("--baseline", default="ref")
    parser.add_argument("--bar", type=float, default=0.1, help="percent")
    args = parser.parse_args()
    wikitext = ROOT.parent / "shared/data/wikitext-2/valid.txt"
    text = args.text or (wikitext if wikitext.exists() else ROOT / "examples/demo/eval_text.txt")
    line = next(line for line in thimble("doctor").splitlines() if line.startswith("kernels here"))
    tiers = [tier for tier in line.split("(")[0].split()[2:] if tier not in ("ref", args.baseline)]

    print(f"| type | KL divergence from F32 activations | same top token | perplexity, {args.baseline} | "
          + " | ".join(f"{tier}, off" for tier in tiers) + " |")
    print("|---|---:|---:|---:|" + "---:|" * len(tiers), flush=True)
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for mix in args.types:
            model = folder / f"{mix}.gguf"
            thimble("quantize", args.model, "-o", model, "--type", mix)
            cost = evaluate(model, text, args.windows, folder, reference=model)
            base = evaluate(model, text, args.windows, folder, args.baseline)["ppl"]
            off = [100 * (evaluate(model, text, args.windows, folder, tier)["ppl"] / base - 1) for tier in tiers]
            good &= all(abs(o) <= args.bar for o in off)
            print(f"| {mix} | {cost['kld_mean']:.2g} | {100 * cost['top1_agreement']:.1f} % | {base:.3f} | "
                  + " | ".join(f"{o:+.3f} %" for o in off) + " |", flush=True)
            model.unlink()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
