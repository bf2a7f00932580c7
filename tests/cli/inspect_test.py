#!/usr/bin/env python3
"""thimble inspect: models and adapters, for people and as JSON."""
import json
import shutil

import harness
from gguf_reader import write_safetensors

MODELS = harness.ROOT / "tests/golden/models"


class Models(harness.ThimbleCase):
    def test_folder(self):
        info = self.thimble_json("inspect", MODELS / "llama_bias_tied", "--json", "--tensors")
        self.assertEqual(info["kind"], "huggingface")
        self.assertEqual(info["architecture"], "llama")
        expected = json.loads((MODELS / "llama_bias_tied/expected.json").read_text())
        self.assertEqual(info["n_parameters"], expected["n_parameters"])
        self.assertEqual(info["bits_per_weight"], 32)
        self.assertEqual(info["types"], [{"type": "F32", "tensors": len(info["tensors"]), "weights": info["n_parameters"],
                                          "bytes": 4 * info["n_parameters"]}])
        self.assertEqual(info["config"]["n_kv_heads"], 1)
        self.assertTrue(info["config"]["tied_embeddings"])
        self.assertEqual(info["tokenizer"]["vocabulary"], 272)
        self.assertEqual(info["tokenizer"]["special"]["eos"], {"id": 1, "token": "</s>"})
        self.assertIn("assistant", info["chat_template"])
        self.assertEqual(info["notes"], [])
        self.assertIn({"name": "model.norm.weight", "type": "F32", "shape": [64], "bytes": 256}, info["tensors"])

    def test_gguf_for_people(self):
        self.thimble("quantize", MODELS / "qwen3", "-o", "tiny.Q4_K_M.gguf", "--type", "Q8_0")
        text = self.thimble("inspect", "tiny.Q4_K_M.gguf")
        for words in ["qwen3", "Q8_0", "bits per weight", "pre-tokenizer gpt-2, 272 tokens", "general.file_type = 7",
                      "the file's name says Q4_K_M, its general.file_type Q8_0", "[272 strings]"]:
            self.assertIn(words, text)
        self.assertNotIn("blk.0.attn_q.weight", text)
        self.assertIn("blk.0.attn_q.weight", self.thimble("inspect", "tiny.Q4_K_M.gguf", "--tensors"))

    def test_types_that_are_not_the_mix(self):
        self.thimble("quantize", MODELS / "llama", "-o", "a.gguf", "--type", "Q4_K_S", "--tensor-type", "attn_q=F16")
        info = self.thimble_json("inspect", "a.gguf", "--json")
        self.assertEqual(info["file_type"], "Q4_K_S")
        fell_back, others = info["notes"]
        self.assertIn("x Q5_0 instead of Q4_K", fell_back)
        self.assertIn("2 x F16 instead of Q4_K", others)

    @harness.needs_smollm2
    def test_real_model(self):
        info = self.thimble_json("inspect", harness.SMOLLM2, "--json")
        self.assertEqual([(t["type"], t["tensors"], t["weights"], t["bytes"]) for t in info["types"]],
                         [("Q4_1", 210, 106168320, 66355200), ("Q8_0", 1, 28311552, 30081024), ("F32", 61, 35136, 140544)])
        self.assertEqual(info["file_type"], "Q4_1")
        self.assertIn("1 x Q8_0 instead of Q6_K", info["notes"][0])
        self.assertEqual(info["metadata"]["tokenizer.ggml.merges"], {"type": "strings", "length": 48900})
        self.assertEqual(info["tokenizer"]["pre"], "smollm")

    def test_what_cannot_run_is_still_shown(self):
        shutil.copytree(MODELS / "llama", self.dir / "odd")
        config = json.loads((self.dir / "odd/config.json").read_text())
        self.write("odd/config.json", config | {"model_type": "knitting"})
        self.write("odd/tokenizer.json", {"model": {"type": "Scissors"}})
        info = self.thimble_json("inspect", "odd", "--json")
        self.assertEqual(info["architecture"], "knitting")
        self.assertIn("cannot run this model: odd/config.json", info["notes"][0])
        self.assertIn("cannot use the tokenizer: odd", info["notes"][1])
        self.assertIn("knitting", self.thimble("inspect", "odd"))

    def test_errors_name_the_file(self):
        self.write("noise.gguf", b"GGUF" + b"\xff" * 60)
        for args in [["absent.gguf"], ["noise.gguf"], ["."]]:
            self.thimble_fails("inspect", *args, says=args[0])


class Adapters(harness.ThimbleCase):
    def test_peft_and_gguf(self):
        (self.dir / "a").mkdir()
        self.write("a/adapter_config.json", {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["o_proj"],
                                             "base_model_name_or_path": "some/base", "use_rslora": True})
        prefix = "base_model.model.model.layers.{}.self_attn.o_proj.lora_{}.weight"
        write_safetensors(self.dir / "a/adapter_model.safetensors",
                          {prefix.format(i, x): ([2, 64] if x == "A" else [64, 2], [0.5] * 128)
                           for i in (0, 1) for x in "AB"})
        info = self.thimble_json("inspect", "a", "--json")
        self.assertEqual([info[k] for k in ("kind", "peft_type", "rank", "alpha", "target_modules", "n_parameters", "base")],
                         ["peft", "LORA", 2, 8, ["o_proj"], 512, "some/base"])
        self.thimble("convert", "a", "-o", "a.gguf", "--base", MODELS / "llama")
        info = self.thimble_json("inspect", "a.gguf", "--json")
        self.assertEqual([info[k] for k in ("kind", "architecture", "rank", "alpha", "target_modules", "n_parameters")],
                         ["gguf-lora", "llama", 2, 0, ["attn_output"], 512])
        for path in ["a", "a.gguf"]:
            self.assertIn("rank            2", self.thimble("inspect", path))

    @harness.needs_shared
    def test_other_methods(self):
        for name, peft_type in [("ia3", "IA3"), ("dora", "LORA"), ("rslora", "LORA")]:
            info = self.thimble_json("inspect", harness.SHARED / "golden/adapters" / name, "--json")
            self.assertEqual(info["peft_type"], peft_type)
            self.assertEqual(info["notes"], [])


if __name__ == "__main__":
    harness.main()
