#!/usr/bin/env python3
"""Load a GGUF LoRA in llama.cpp and compare its logits with those of the same adapter elsewhere.

  check_gguf_lora.py BASE.gguf LORA.gguf --thimble build/release/bin/thimble [--thimble-adapter DIR-or-FILE]
      with `thimble logits BASE.gguf --adapter ...`
  check_gguf_lora.py BASE.gguf LORA.gguf --peft ADAPTER-DIR --model HF-DIR-or-GGUF
      with PEFT

llama.cpp multiplies quantized weights with activations in 8 bits, so its own distance from us without the adapter is
measured first: with the adapter it may be at most the tolerance, or twice that distance. Use an F32 base for a sharp
check. Fails too if the adapter changes nothing.

Needs: pip install llama-cpp-python==0.3.36 numpy (and for --peft: torch transformers peft gguf safetensors)
"""
import argparse
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from llama_cpp_api import LlamaModel  # noqa: E402
from thimble_logits import SEQUENCES, compare, read_ids, thimble_logits  # noqa: E402


def as_entries(logits, top=50):
    """A reference's logits in the form that thimble logits has."""
    order = (-logits).argsort(axis=1)[:, :top]
    return [dict(position=i, ids=ids.tolist(), logits=logits[i][ids].tolist()) for i, ids in enumerate(order)]


def from_peft(model_path, adapter, sequences):
    import reference_model
    from check_peft import load_adapter

    model = reference_model.load(model_path)
    without = [as_entries(reference_model.logits(model, ids)) for ids in sequences]
    model = load_adapter(model, adapter)
    return without, [as_entries(reference_model.logits(model, ids)) for ids in sequences]


def from_thimble(args, sequences):
    without = [thimble_logits(args.thimble, args.base, ids) for ids in sequences]
    return without, [thimble_logits(args.thimble, args.base, ids, [args.thimble_adapter or args.lora])
                     for ids in sequences]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("lora", type=pathlib.Path)
    parser.add_argument("--thimble", help="the binary")
    parser.add_argument("--thimble-adapter", type=pathlib.Path, help="the adapter that Thimble loads (default: LORA)")
    parser.add_argument("--peft", type=pathlib.Path, help="the same adapter as PEFT saved it, instead of --thimble")
    parser.add_argument("--model", type=pathlib.Path, help="the base for --peft (default: BASE)")
    parser.add_argument("--ids", help='"1,2,3" or a JSON file with an array of ids, or several')
    parser.add_argument("--tolerance", type=float, default=1e-2)
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if bool(args.thimble) == bool(args.peft):
        parser.error("give either --thimble or --peft")

    sequences = read_ids(args.ids) if args.ids else SEQUENCES
    with LlamaModel(args.base, n_threads=args.threads) as model:
        base = [model.logits(ids) for ids in sequences]
        model.add_adapter(args.lora)
        adapted = [model.logits(ids) for ids in sequences]
    without, with_adapter = (from_peft(args.model or args.base, args.peft, sequences) if args.peft
                             else from_thimble(args, sequences))
    failed = False
    for i, ids in enumerate(sequences):
        changed = abs(adapted[i] - base[i]).max()
        floor, _ = compare(without[i], base[i])
        worst, other_first = compare(with_adapter[i], adapted[i])
        good = worst <= max(args.tolerance, 2 * floor) and changed > 0
        failed |= not good
        print(f"{len(ids)} tokens: the adapter moves llama.cpp's logits by up to {changed:.3f}; the difference is {worst:.2e} "
              f"({floor:.2e} without the adapter), other first token at {other_first} of {len(ids)} positions: "
              f"{'ok' if good else 'FAILED'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
