#!/usr/bin/env python3
"""Load an adapter folder in PEFT and compare its logits with Thimble's.

  check_peft.py MODEL ADAPTER-DIR --thimble build/release/bin/thimble [--thimble-model FILE.gguf]
      runs `thimble logits ... --adapter` on MODEL (or on the file given) for a few sequences
  check_peft.py MODEL ADAPTER-DIR --ids 1,2,3 --logits FILE.json
      compares what `thimble logits --json` wrote

MODEL: a Hugging Face folder, or a GGUF, which Transformers dequantizes to F32. Fails if PEFT misses or doesn't know a
tensor of the adapter, if the adapter changes nothing, or if a logit differs by more than the tolerance.

Needs: pip install torch transformers peft gguf safetensors
"""
import argparse
import json
import pathlib
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import reference_model  # noqa: E402
from thimble_logits import SEQUENCES, compare, read_ids, thimble_logits  # noqa: E402


def load_adapter(model, folder):
    """A PeftModel. Raises if the tensors on disk aren't exactly the ones that the config asks for."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Found missing adapter keys"
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(model, folder).eval()
    with safe_open(pathlib.Path(folder) / "adapter_model.safetensors", "pt") as file:
        on_disk = {name: file.get_slice(name).get_shape() for name in file.keys()}
    wanted = {name: list(t.shape) for name, t in get_peft_model_state_dict(model).items()}
    if on_disk != wanted:
        different = sorted(name for name in on_disk.keys() | wanted.keys() if on_disk.get(name) != wanted.get(name))
        raise ValueError(f"{folder}: {len(different)} tensors aren't what PEFT makes of the config, e.g. "
                         + "; ".join(f"{n}: {on_disk.get(n)} on disk, {wanted.get(n)} wanted" for n in different[:3]))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("adapter", type=pathlib.Path)
    parser.add_argument("--thimble", help="the binary")
    parser.add_argument("--thimble-model", type=pathlib.Path, help="the file that Thimble loads (default: MODEL)")
    parser.add_argument("--thimble-adapter", type=pathlib.Path, help="the adapter that Thimble loads (default: ADAPTER)")
    parser.add_argument("--ids", help='"1,2,3" or a JSON file with an array of ids, or several')
    parser.add_argument("--logits", type=pathlib.Path, help="Thimble's output, instead of --thimble")
    parser.add_argument("--tolerance", type=float, default=2e-3)
    args = parser.parse_args()
    if bool(args.thimble) == bool(args.logits) or (args.logits and not args.ids):
        parser.error("give either --thimble, or --ids and --logits")

    sequences = read_ids(args.ids) if args.ids else SEQUENCES
    model = reference_model.load(args.model)
    base = [reference_model.logits(model, ids) for ids in sequences]
    model = load_adapter(model, args.adapter)
    failed = False
    for ids, before in zip(sequences, base):
        reference = reference_model.logits(model, ids)[-len(ids):]  # without what prompt tuning puts before them
        changed = abs(reference - before).max()
        entries = json.loads(args.logits.read_text()) if args.logits else thimble_logits(
            args.thimble, args.thimble_model or args.model, ids, [args.thimble_adapter or args.adapter])
        worst, other_first = compare(entries, reference)
        good = worst <= args.tolerance and other_first == 0 and changed > 0
        failed |= not good
        print(f"{len(ids)} tokens: the adapter moves logits by up to {changed:.3f} in PEFT; Thimble's differ by at most "
              f"{worst:.2e}, other first token at {other_first} of {len(entries)} positions: {'ok' if good else 'FAILED'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
