#!/usr/bin/env python3
"""Whether TensorBoard reads the curves of `thimble tune --logging-dir` as log.jsonl has them.

  bench/peers/venv/bin/python tools/check_tensorboard.py [--thimble PROGRAM]

Needs: pip install -r tools/requirements-peers.txt (make peers).
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAGS = {"loss": "train/loss", "grad_norm": "train/grad_norm", "learning_rate": "train/learning_rate", "eval_loss": "eval/loss"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thimble", default=ROOT / "build/release/bin/thimble")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        data = scratch / "data.jsonl"
        data.write_text("".join(json.dumps(dict(text=f"torch {i}")) + "\n" for i in range(12)))
        subprocess.run([args.thimble, "tune", ROOT / "tests/golden/models/llama", "--data", data, "--eval-data", data, "-o",
                        scratch / "out", "--eval-steps", "2", "--epochs", "2", "--logging-dir", scratch / "runs"], check=True,
                       stdout=subprocess.DEVNULL)
        entries = [json.loads(line) for line in (scratch / "out/log.jsonl").read_text().splitlines()]
        board = EventAccumulator(str(scratch / "runs"))
        board.Reload()
        for name, tag in TAGS.items():
            want = [(e["step"], e[name]) for e in entries if name in e]
            got = [(s.step, s.value) for s in board.Scalars(tag)]
            if len(want) != len(got) or any(a[0] != b[0] or abs(a[1] - b[1]) > 1e-6 * max(1, abs(a[1])) for a, b in zip(want, got)):
                sys.exit(f"{tag}: TensorBoard reads {got}, the log has {want}")
            print(f"{tag}: {len(got)} values, the log's")


if __name__ == "__main__":
    main()
