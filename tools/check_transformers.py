#!/usr/bin/env python3
"""Load the Hugging Face folder that Thimble makes of a GGUF in Transformers, and compare logits and token ids.

  check_transformers.py MODEL.gguf --thimble build/release/bin/thimble            converts to F32 first
  check_transformers.py HF-DIR --thimble build/release/bin/thimble                takes the folder as it is

Fails if Transformers misses or doesn't know a tensor of the folder, if a logit differs by more than the tolerance, or if
a text's ids differ between Transformers' tokenizer and thimble tokenize.

Needs: pip install torch transformers safetensors
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import reference_model  # noqa: E402
from thimble_logits import SEQUENCES, compare, read_ids, thimble_logits  # noqa: E402

TEXTS = ["Hello, world! It's 3:45 pm.", "  two spaces\n\n\tand a tab", "안녕하세요, 세계!", "naïve café 12345 — ok 🙂",
         "def f(x):\n    return x ** 2\n"]


def load(folder):
    """An F32 model. Raises if the folder's tensors aren't exactly the model's."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise ValueError(f"{folder}: {kind}: {sorted(info[kind])[:3]}")
    return model.eval()


def other_ids(thimble, folder, model):
    """Texts whose ids differ."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    different = []
    for text in TEXTS:
        ours = json.loads(subprocess.run([thimble, "tokenize", model, "--text", text, "--json"], check=True,
                                         stdout=subprocess.PIPE).stdout)
        if ours != tokenizer.encode(text):
            different.append(f"{text!r}: {ours} here, {tokenizer.encode(text)} in Transformers")
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--thimble", required=True, help="the binary")
    parser.add_argument("--ids", help='"1,2,3" or a JSON file with an array of ids, or several')
    parser.add_argument("--tolerance", type=float, default=2e-3)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()

    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model
        if not folder.is_dir():
            folder = pathlib.Path(scratch) / "hf"
            subprocess.run([args.thimble, "convert", args.model, "-o", folder, "--outtype", "f32"], check=True)
        model = load(folder)
        vocabulary = model.config.vocab_size
        for ids in read_ids(args.ids) if args.ids else [[i % vocabulary for i in s] for s in SEQUENCES]:
            reference = reference_model.logits(model, ids)
            entries = thimble_logits(args.thimble, folder, ids)
            worst, other_first = compare(entries, reference)
            good = worst <= args.tolerance and other_first == 0
            failed |= not good
            print(f"{len(ids)} tokens: logits differ by at most {worst:.2e}, other first token at {other_first} of "
                  f"{len(ids)} positions: {'ok' if good else 'FAILED'}")
        different = other_ids(args.thimble, folder, args.model)
        failed |= bool(different)
        print(f"token ids of {len(TEXTS)} texts: " + ("\n  ".join(["FAILED", *different]) if different else "ok"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
