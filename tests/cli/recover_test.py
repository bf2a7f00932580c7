#!/usr/bin/env python3
"""thimble recover on a model of a few thousand weights, and what goes on from its adapters."""
import json
import random
import re

import harness

MODEL = harness.ROOT / "tests/golden/models/llama"
KEPT = re.compile(r"without an adapter +([\d.]+)\n  before the first step ([\d.]+), .*\n  with the adapter +([\d.]+),")


def documents(n, seed):
    rng = random.Random(seed)
    word = lambda: "".join(rng.choice("abcdefghij") for _ in range(rng.randint(1, 8)))
    return "\n---\n".join(" ".join(word() for _ in range(180)) for _ in range(n))


class Recover(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.texts = ["--calibration", self.write("text.txt", documents(20, 1)), "--calibration-tokens", 4096, "--cache",
                      "cache", "-t", 1]
        self.thimble("quantize", MODEL, "-o", "small.gguf", "--type", "Q4_0", "--pure")
        self.thimble("convert", MODEL, "-o", "whole.gguf", "--outtype", "f32")

    def recover(self, *args, teacher=MODEL, out="out"):
        """What is printed, and the three divergences."""
        said = self.thimble("recover", "small.gguf", "--teacher", teacher, "-o", out, *self.texts, *args)
        found = KEPT.search(said)
        self.assertIsNotNone(found, said)
        return said, *map(float, found.groups())

    def test_it_closes_what_rounding_opened(self):
        said, before, start, after = self.recover("--rank", 16, "--epochs", 4, "--lr", "2e-3")
        self.assertIn("lora, rank 16", said)
        self.assertLess(start, 0.75 * before)
        self.assertLess(after, 0.95 * start)
        # Of a larger rank the start alone is nearer, and of a file the teacher's rows of queries and keys stand in
        # another order.
        _, same, closer, _ = self.recover("--rank", 24, "--max-steps", 1, "--lr", "1e-9", out="larger")
        self.assertEqual(same, before)
        self.assertLess(closer, start)
        _, same, again, _ = self.recover("--rank", 24, "--max-steps", 1, "--lr", "1e-9", teacher="whole.gguf", out="file")
        self.assertAlmostEqual(same, before, delta=1e-4)
        self.assertAlmostEqual(again, closer, delta=0.02 * closer)

    def test_hidden_states(self):
        log = lambda out: [json.loads(line) for line in (self.dir / out / "log.jsonl").read_text().splitlines() if "grad_norm" in line]
        steps = ["--rank", 16, "--max-steps", 30, "--lr", "2e-3"]
        _, before, start, alone = self.recover(*steps)
        _, *same, beside = self.recover(*steps, "--hidden-weight", 0.3, out="beside")
        self.assertEqual(same, [before, start])
        self.assertNotEqual(log("out")[0]["grad_norm"], log("beside")[0]["grad_norm"])
        self.assertEqual(log("out")[0]["loss"], log("beside")[0]["loss"])  # of the predictions alone
        self.assertLess(beside, start)
        self.assertNotEqual(beside, alone)

    def test_a_task_starts_from_it(self):
        self.recover("--rank", 4, "--max-steps", 2)
        data = self.write("data.jsonl", "".join(json.dumps(dict(text=f"torch {i}")) + "\n" for i in range(8)))
        tune = lambda *args, out: self.thimble("tune", "small.gguf", "--data", data, "-o", out, "--rank", 4, "--lora-alpha",
                                               4, "--max-steps", 1, "--lr", "1e-9", *args)
        loss = lambda out: json.loads((self.dir / out / "log.jsonl").read_text().splitlines()[0])["loss"]
        tune(out="plain")
        tune("--start-from", "out", out="from")
        self.assertNotEqual(loss("plain"), loss("from"))
        logits = [self.thimble_json("logits", "small.gguf", "--ids", "5,6,7", "--compute", "f32", "--json", "--adapter", a)
                  for a in ("out", "from")]
        for a, b in zip(logits[0][0]["logits"], logits[1][0]["logits"]):
            self.assertAlmostEqual(a, b, delta=1e-3)
        self.thimble_fails("tune", "small.gguf", "--data", data, "-o", "no", "--rank", 8, "--start-from", "out",
                           says="other modules or ranks")

    def test_starts_of_lora(self):
        data = self.write("data.jsonl", "".join(json.dumps(dict(text=f"torch {i}")) + "\n" for i in range(8)))
        tune = lambda *args, out: self.thimble("tune", "small.gguf", "--data", data, "-o", out, "--rank", 4, "--max-steps", 2,
                                               "--lr", "1e-9", *args)
        losses = lambda out: [json.loads(l)["loss"] for l in (self.dir / out / "log.jsonl").read_text().splitlines()]
        tune("--compute", "f32", out="plain")
        tune("--compute", "f32", "--init-lora-weights", "pissa", out="pissa")
        for a, b in zip(losses("plain"), losses("pissa")):
            self.assertAlmostEqual(a, b, delta=1e-3)
        self.assertEqual(json.loads((self.dir / "pissa/adapter_config.json").read_text())["r"], 8)
        tune("--init-lora-weights", "loftq", "--unquantized", MODEL, out="loftq")
        self.assertNotEqual(losses("plain"), losses("loftq"))
        fails = lambda *args, says: self.thimble_fails("tune", "small.gguf", "--data", data, "-o", "no", *args, says=says)
        fails("--init-lora-weights", "loftq", says="--unquantized")
        fails("--unquantized", MODEL, says="go together")
        fails("--init-lora-weights", "loftq", "--unquantized", MODEL.parent / "qwen2", says="before rounding")
        fails("--method", "dora", "--init-lora-weights", "pissa", says="dora has no --init-lora-weights")

    def test_what_cannot_be(self):
        fails = lambda *args, says: self.thimble_fails("recover", "small.gguf", "-o", "no", *self.texts, *args, says=says)
        fails("--teacher", "absent.gguf", says="absent.gguf")
        fails(says="--teacher")
        fails("--teacher", MODEL.parent / "qwen2", says="280 tokens in its vocabulary")
        fails("--teacher", MODEL, "--rank", 64, says="rank 64 does not fit")
        self.assertFalse((self.dir / "no").exists())


if __name__ == "__main__":
    harness.main()
