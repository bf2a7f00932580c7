#!/usr/bin/env python3
"""thimble adapter, and adapters bound to their base: what their files say, quantized, merged, on another base."""
import hashlib
import json
import re

import harness

MODELS = harness.ROOT / "tests/golden/models"
MODEL = MODELS / "llama"
VOCABULARY = 272
TEXT = "".join(json.dumps(dict(prompt=f"torch {w}", completion=f"the torch is {w}")) + "\n" for w in ["on", "off", "red", "dim"] * 4)


class Adapters(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", TEXT)
        self.thimble("quantize", MODEL, "-o", "q8.gguf", "--type", "Q8_0", "--pure")

    def tune(self, *args, model="q8.gguf", out="adapters/lora"):
        (self.dir / "adapters").mkdir(exist_ok=True)
        return self.thimble("tune", model, "--data", self.data, "-o", out, "--lr", "1e-2", "--batch-size", 4, "-t", 1,
                            "--epochs", 3, "--rank", 4, *args)

    def logits(self, model, *args):
        """Of all tokens, in their order; and what is said on standard error."""
        done = self.run_thimble("logits", model, "--ids", "5,6,7,8,9", "--compute", "f32", "--json", "--top", VOCABULARY, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        last = json.loads(done.stdout)[0]
        self.assertEqual(len(last["ids"]), VOCABULARY)
        return [logit for _, logit in sorted(zip(last["ids"], last["logits"]))], done.stderr

    def difference(self, a, b):
        return max(abs(x - y) for x, y in zip(a, b))

    def test_what_the_file_says(self):
        self.tune("--eval-data", self.data)
        info = self.thimble_json("adapter", "inspect", "adapters/lora", "--json")
        notes = {k: v for k, v in info["metadata"].items() if k.startswith("thimble.")}
        self.assertEqual(notes["thimble.method"], "lora")
        self.assertEqual(notes["thimble.steps"], "12")
        self.assertEqual(notes["thimble.data"], hashlib.sha256(TEXT.encode()).hexdigest())
        last = [json.loads(l) for l in (self.dir / "adapters/lora/log.jsonl").read_text().splitlines()][-1]
        self.assertAlmostEqual(float(notes["thimble.eval_loss"]), last["eval_loss"], delta=1e-4)
        self.assertEqual(len(notes["thimble.base"]), 64)
        self.assertEqual(info["notes"], [])
        self.thimble("convert", "adapters/lora", "--base", "q8.gguf", "-o", "lora.gguf")
        self.assertEqual({k: v for k, v in self.thimble_json("inspect", "lora.gguf", "--json")["metadata"].items()
                          if k.startswith("thimble.")}, notes)

    def test_another_base_is_warned_of(self):
        self.tune()
        _, said = self.logits("q8.gguf", "--adapter", "adapters/lora")
        self.assertEqual(said, "")
        self.thimble("quantize", MODEL, "-o", "q4.gguf", "--type", "Q4_0", "--pure")
        _, said = self.logits("q4.gguf", "--adapter", "adapters/lora")
        self.assertIn("warning: adapters/lora was trained on another base than q4.gguf", said)
        self.thimble("convert", "adapters/lora", "--base", "q8.gguf", "-o", "lora.gguf")
        _, said = self.logits("q4.gguf", "--adapter", "lora.gguf")
        self.assertIn("trained on another base", said)

    def test_list(self):
        self.tune()
        self.thimble("tune", MODEL, "--data", self.data, "-o", "adapters/ia3", "--method", "ia3", "--max-steps", 1)
        self.thimble("convert", "adapters/lora", "--base", "q8.gguf", "-o", "adapters/z.gguf", "--outtype", "q4_0")
        self.write("adapters/notes.txt", "not an adapter")
        lines = self.thimble("adapter", "list", "adapters", "--base", "q8.gguf").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["adapter", "ia3", "lora", "z.gguf"])
        self.assertRegex(lines[1], r"ia3 +ia3 .* another$")
        self.assertRegex(lines[2], r"lora +lora +4 +7424 .* this$")
        self.assertRegex(lines[3], r"z.gguf +lora +4 +7424 .* this$")
        self.thimble_fails("adapter", "list", "absent", says="absent")

    def test_quantized_adapters(self):
        self.tune()
        base, _ = self.logits("q8.gguf")
        want, _ = self.logits("q8.gguf", "--adapter", "adapters/lora")
        size = {}
        for name, bound in [("f32", 1e-4), ("f16", 0.01), ("q8_0", 0.05), ("q5_0", 0.1), ("q4_0", 0.2)]:
            with self.subTest(name):
                self.thimble("convert", "adapters/lora", "--base", "q8.gguf", "-o", f"{name}.gguf", "--outtype", name)
                got, said = self.logits("q8.gguf", "--adapter", f"{name}.gguf")
                self.assertLess(self.difference(got, want), bound * self.difference(base, want))
                size[name] = (self.dir / f"{name}.gguf").stat().st_size
        self.assertLess(size["q4_0"], size["q8_0"])
        # Back to a folder: what the blocks hold.
        self.thimble("convert", "q4_0.gguf", "--base", "q8.gguf", "-o", "back")
        got, _ = self.logits("q8.gguf", "--adapter", "back")
        blocks, _ = self.logits("q8.gguf", "--adapter", "q4_0.gguf")
        self.assertLess(self.difference(got, blocks), 1e-4)
        fails = lambda *args, says: self.thimble_fails("convert", "adapters/lora", "--base", "q8.gguf", *args, says=says)
        fails("-o", "x.gguf", "--outtype", "q4_k", says="an adapter can be F32")
        self.thimble_fails("convert", "f32.gguf", "--base", "q8.gguf", "-o", "x", "--outtype", "q8_0",
                           says="a PEFT folder is written in F32")

    def test_merge(self):
        for method in ["lora", "dora", "vera", "ia3"]:
            with self.subTest(method):
                rank = [] if method == "ia3" else ["--rank", 4]
                self.thimble("tune", "q8.gguf", "--data", self.data, "-o", method, "--method", method, *rank, "--lr", "1e-2",
                             "--epochs", 3)
                self.thimble("adapter", "merge", "q8.gguf", method, "-o", f"{method}.gguf", "--outtype", "f32")
                want, _ = self.logits("q8.gguf", "--adapter", method)
                got, _ = self.logits(f"{method}.gguf")
                self.assertLess(self.difference(got, want), 2e-3)
        half, _ = self.logits("q8.gguf", "--adapter", "lora=0.5")
        self.thimble("adapter", "merge", "q8.gguf", "lora=0.5", "-o", "half.gguf", "--outtype", "f32")
        got, _ = self.logits("half.gguf")
        self.assertLess(self.difference(got, half), 2e-3)
        # Into a folder's weights too, whose rows move.
        self.thimble("tune", MODEL, "--data", self.data, "-o", "hf", "--lr", "1e-2", "--epochs", 2)
        want, _ = self.logits(MODEL, "--adapter", "hf")
        self.thimble("adapter", "merge", MODEL, "hf", "-o", "hf.gguf")
        got, _ = self.logits("hf.gguf")
        self.assertLess(self.difference(got, want), 2e-3)

    def test_what_rounding_does_to_a_merge(self):
        self.thimble("tune", "q8.gguf", "--data", self.data, "-o", "faint", "--rank", 4, "--lr", "1e-5", "--max-steps", 2)
        self.thimble("tune", "q8.gguf", "--data", self.data, "-o", "strong", "--rank", 4, "--lr", "3e-2", "--epochs", 4)
        row = re.compile(r"^(F32|Q8_0|Q4_0) +14 +([\d.]+) % +(-?\d+) % +([\d.]+)", re.M)
        results = {}
        for adapter, outtype in [("faint", "f32"), ("faint", "q4_0"), ("strong", "q8_0")]:
            said = self.thimble("adapter", "merge", "q8.gguf", adapter, "-o", "m.gguf", "--outtype", outtype)
            _, change, kept, noise = row.search(said).groups()
            results[adapter, outtype] = float(change), int(kept), float(noise), "Warning" in said
        self.assertEqual(results["faint", "f32"][1:], (100, 0.0, False))
        self.assertTrue(results["faint", "q4_0"][3])
        self.assertGreater(results["faint", "q4_0"][2], 5)
        self.assertFalse(results["strong", "q8_0"][3])
        self.assertGreater(results["strong", "q8_0"][0], results["faint", "q4_0"][0])

    def test_what_cannot_be_merged(self):
        for method, says in [("bitfit", "a bias"), ("bottleneck", "a bottleneck"), ("prompt-tuning", "before a text"),
                             ("norm-tuning", "norms")]:
            with self.subTest(method):
                self.thimble("tune", "q8.gguf", "--data", self.data, "-o", method, "--method", method, "--max-steps", 1)
                self.thimble_fails("adapter", "merge", "q8.gguf", method, "-o", "m.gguf", says=[says, "cannot be merged"])
        self.assertFalse((self.dir / "m.gguf").exists())

    def test_rebase(self):
        self.tune("--lora-alpha", 6, "--target-modules", "q_proj,v_proj,down_proj")
        self.thimble("quantize", MODEL, "-o", "q4.gguf", "--type", "Q4_0", "--pure")
        text = self.write("text.txt", "\n---\n".join(f"torch the {i} is red dim on off " * 40 for i in range(20)))
        flags = ["--calibration", text, "--cache", "cache", "--lr", "2e-3", "-t", 1]
        said = self.thimble("adapter", "rebase", "adapters/lora", "--from", "q8.gguf", "--to", "q4.gguf", "-o", "moved", *flags)
        without, as_was, fitted = (float(re.search(p + r" +([\d.]+)", said).group(1))
                                   for p in ("q4.gguf without it", "with it as it was", "fitted again"))
        self.assertLess(as_was, without)
        self.assertLess(fitted, as_was)
        _, said = self.logits("q4.gguf", "--adapter", "moved")
        self.assertEqual(said, "")
        config = json.loads((self.dir / "moved/adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"], sorted(config["target_modules"])),
                         (4, 6, ["down_proj", "q_proj", "v_proj"]))
        self.thimble("tune", "q8.gguf", "--data", self.data, "-o", "dora", "--method", "dora", "--rank", 4, "--max-steps", 1)
        self.thimble_fails("adapter", "rebase", "dora", "--from", "q8.gguf", "--to", "q4.gguf", "-o", "no", *flags,
                           says="only LoRA and rsLoRA")


if __name__ == "__main__":
    harness.main()
