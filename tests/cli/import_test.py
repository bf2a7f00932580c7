#!/usr/bin/env python3
"""Models that GPTQ, AWQ and compressed-tensors quantized: run, convert, quantize and inspect them."""
import json
import shutil

import harness
from gguf_reader import read_gguf

MODELS = harness.ROOT / "tests/golden/import/models"
EXACT = {"gptq": "Q5_0", "awq": "Q5_0", "compressed_tensors": "Q4_0"}
G_IDX = "'model.layers.1.mlp.down_proj.weight' (GPTQ, 4 bits) is read as F16, rounded"  # the only one out of order


class Import(harness.ThimbleCase):
    def check_logits(self, model, name, tolerance):
        """As Transformers computes them from the numbers that the checkpoint's own library reads."""
        expected = json.loads((MODELS / name / "expected.json").read_text())
        row = self.thimble_json("logits", model, "--ids", ",".join(map(str, expected["ids"])), "--top", 10, "--json",
                                "--compute", "f32")[-1]
        self.assertEqual(row["ids"], expected["top10"]["ids"])
        for got, want in zip(row["logits"], expected["top10"]["logits"]):
            self.assertLess(abs(got - want), tolerance)

    def test_logits_of_the_folder_and_of_its_gguf(self):
        for name, exact in EXACT.items():
            with self.subTest(name):
                tolerance = 3e-3 if name == "gptq" else 1e-4  # one matrix is rounded to F16
                self.check_logits(MODELS / name, name, tolerance)
                summary = self.thimble("convert", MODELS / name, "-o", "out.gguf")
                self.check_logits("out.gguf", name, tolerance)
                self.assertIn(f"4 bits are read as {exact}, exactly", summary)
                self.assertEqual(G_IDX in summary, name == "gptq")
                metadata, tensors = read_gguf(self.dir / "out.gguf")
                self.assertEqual(metadata["general.file_type"][1], {"Q4_0": 2, "Q5_0": 8}[exact])
                matrices = [t.type for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2]
                self.assertEqual(sorted(matrices), ["F16"] * (name == "gptq") + [exact] * (14 - (name == "gptq")))

    def test_values(self):
        for name in EXACT:
            for command in [("dequantize", "--type", "F16"), ("convert", "--outtype", "f16")]:
                self.thimble(command[0], MODELS / name, "-o", "out.gguf", *command[1:])
                self.assertEqual({t.type for t in read_gguf(self.dir / "out.gguf")[1] if len(t.shape) == 2}, {"F16"})
                self.check_logits("out.gguf", name, 2e-2)

    def test_quantize_says_that_it_rounds_again(self):
        summary = self.thimble("quantize", MODELS / "gptq", "-o", "out.gguf", "--type", "Q8_0")
        self.assertIn("note: 13 tensors were quantized already", summary)
        self.assertIn("13 GPTQ matrices of 4 bits are read as Q5_0, exactly", summary)
        self.assertIn(G_IDX, summary)

    def test_inspect(self):
        info = self.thimble_json("inspect", MODELS / "gptq", "--json", "--tensors")
        self.assertEqual(info["kind"], "huggingface")
        types = {t["type"]: t for t in info["types"]}
        self.assertEqual(types["4-bit"]["tensors"], 14)
        self.assertEqual(info["n_parameters"], 96576)
        self.assertIn({"name": "model.layers.0.self_attn.k_proj.weight", "type": "4-bit", "shape": [32, 64],
                       "bytes": 32 * 64 // 2 + 2 * 32 // 2 + 2 * 32 * 2 + 64 * 4}, info["tensors"])
        self.assertIn("13 GPTQ matrices of 4 bits are read as Q5_0, exactly", info["notes"])
        self.assertIn("4-bit", self.thimble("inspect", MODELS / "awq"))

    def test_errors_name_folder_and_tensor(self):
        shutil.copytree(MODELS / "gptq", self.dir / "hf")
        config = json.loads((self.dir / "hf/config.json").read_text())
        for change, says in [(dict(bits=8), "'model.layers.0.mlp.down_proj.qweight' has shape"),
                             (dict(bits=6), '"bits" is 6; supported are 2, 3, 4, 8'),
                             (dict(quant_method="bitsandbytes"), "'bitsandbytes' is not supported")]:
            quantization = config["quantization_config"] | change
            self.write("hf/config.json", config | {"quantization_config": quantization})
            for command in [("convert", "hf", "-o", "out.gguf"), ("logits", "hf", "--ids", "1"), ("inspect", "hf")]:
                self.thimble_fails(*command, says=["hf", says])


if __name__ == "__main__":
    harness.main()
