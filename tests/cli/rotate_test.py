#!/usr/bin/env python3
"""thimble rotate: another file of the same model."""
import harness
from gguf_reader import read_gguf

MODELS = harness.ROOT / "tests/golden/models"
IDS = "1,5,17,40,8,99"


class Rotate(harness.ThimbleCase):
    def logits(self, model):
        """The ten highest."""
        return self.thimble_json("logits", model, "--ids", IDS, "--compute", "f32", "--json")[0]["logits"]

    def test_computes_the_same(self):
        for model, says in ("llama", "rotated the values of 2 layers and the residual stream"), \
                           ("llama_bias_tied", "the residual stream stays as it was: the output is the embedding"), \
                           ("gemma3_text", "the residual stream stays as it was"):
            said = self.thimble("rotate", MODELS / model, "-o", "r.gguf", "--outtype", "f32")
            self.assertIn(says, said)
            before, after = self.logits(MODELS / model), self.logits("r.gguf")
            self.assertEqual(len(before), len(after))
            largest = max(map(abs, before))
            self.assertLess(max(abs(a - b) for a, b in zip(before, after)), 3e-5 * largest, model)

    def test_types_and_seeds(self):
        run = lambda out, *args: (self.thimble("rotate", MODELS / "llama", "-o", out, *args), (self.dir / out).read_bytes())[1]
        self.assertEqual(run("a.gguf"), run("b.gguf", "--seed", 0, "-t", 1))
        self.assertNotEqual(run("c.gguf", "--seed", 1), run("a.gguf"))
        run("d.gguf", "--outtype", "bf16")
        types = lambda name: {t.type for t in read_gguf(self.dir / name)[1] if len(t.shape) == 2}
        self.assertEqual((types("a.gguf"), types("d.gguf")), ({"F16"}, {"BF16"}))
        # Of a GGUF, and of a file that was quantized.
        self.thimble("quantize", MODELS / "llama", "-o", "q8.gguf", "--type", "q8_0")
        run_of = self.thimble("rotate", "q8.gguf", "-o", "e.gguf")
        self.assertIn("e.gguf: rotated", run_of)

    def test_refusals(self):
        self.thimble("convert", MODELS / "llama", "-o", "a.gguf")
        whole = (self.dir / "a.gguf").read_bytes()
        self.write("short.gguf", whole[:-1000])
        for model, args, says in ("a.gguf", ["-o", "a.gguf"], "replace the input"), ("absent", ["-o", "x.gguf"], "absent"), \
                                 ("short.gguf", ["-o", "x.gguf"], "short.gguf"), ("a.gguf", ["-o", "no/x.gguf"], "no/x.gguf"), \
                                 ("a.gguf", ["-o", "x.gguf", "--outtype", "q4_0"], "q4_0"):
            self.thimble_fails("rotate", model, *args, says=says)
        self.assertEqual((self.dir / "a.gguf").read_bytes(), whole)
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["a.gguf", "short.gguf"])


if __name__ == "__main__":
    harness.main()
