#!/usr/bin/env python3
"""What guessing ahead brings: the table of docs/speculative.md, on SmolLM2 as Q4_1 and as F16.

  bench/speculative.py [--rounds 3] [-n 120]

Generates with and without a drafter in turns, fails where the answers differ, and prints for each kind of answer the
median of the ratios and how many of the guesses were right.
"""
import argparse
import re
import subprocess
import sys

from peer_programs import BIN, SMOLLM2, load_average, machine, median, smollm2

TEXT = """Thimble shrinks a pretrained language model, measures what that cost, teaches it a task with a small adapter, \
and runs it. The progam is written in C++ and needs no Python at run time, no network and no GPU. Models are GGUF files \
or Hugging Face folders. Adapters are loaded on top of the base model, and several of them can be used at once. The file \
is mapped into memory, so that a second start is quick."""
PROMPTS = {
    "an edit of the prompt": f"Rewrite the text below. Correct spelling mistakes, keep everything else.\n\n{TEXT}",
    "a summary of the prompt": f"Summarize this text in three sentences: {TEXT}",
    "a question": "Why is the sky blue?",
    "a story": "Write a short story about a dog who finds a key.",
}


def generate(model, prompt, *flags):
    """(text, tokens per second, tokens guessed, of them right)"""
    command = [BIN / "thimble", "run", model, "-p", prompt, "--seed", 1, *flags]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    rate = re.search(r"generated \d+ tokens, ([\d.]+) tokens/s(?:, guessed (\d+) tokens, (\d+) of them right)?", done.stderr)
    if done.returncode != 0 or not rate:
        sys.exit(done.stderr[-2000:])
    return done.stdout, float(rate[1]), int(rate[2] or 0), int(rate[3] or 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-n", "--n-predict", type=int, default=120)
    args = parser.parse_args()
    cases = [("Q4_1", SMOLLM2, "n-grams", ["--spec-type", "ngram-simple"]),
             ("F16", smollm2("F16"), "its own Q8_0", ["--model-draft", smollm2("Q8_0")])]
    print(f"{machine()}, load {load_average():.1f} at the start\n")
    print("| model | drafter | temperature | " + " | ".join(PROMPTS) + " |")
    print("|---" * (3 + len(PROMPTS)) + "|")
    for name, model, drafter, flags in cases:
        for temperature in 0, 0.8:
            cells = []
            for prompt in PROMPTS.values():
                common = ["-n", args.n_predict, "--temp", temperature]
                ratios, rates = [], []
                for _ in range(args.rounds):
                    plain = generate(model, prompt, *common)
                    ahead = generate(model, prompt, *common, *flags)
                    if plain[0] != ahead[0]:
                        sys.exit(f"{name}, {drafter}, temperature {temperature}: the answers differ")
                    rates.append(plain[1])
                    ratios.append(ahead[1] / plain[1])
                cells.append(f"{median(ratios):.2f}x of {median(rates):.0f}/s ({ahead[3]} of {ahead[2]} right)")
            print(f"| {name} | {drafter} | {temperature} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
