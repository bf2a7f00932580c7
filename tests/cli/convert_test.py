#!/usr/bin/env python3
"""thimble convert: what llama.cpp's converter makes, and the way back."""
import hashlib
import json
import math
import random
import shutil
import struct

import harness
from gguf_reader import read_gguf, read_safetensors, write_safetensors

MODELS = harness.ROOT / "tests/golden/models"
# Where llama.cpp has no key for what the model does, Thimble adds one of its own.
OWN_KEYS = {"mistral": {"llama.attention.sliding_window"},
            "gemma3_text_layer_types": {"gemma3.attention.scale", "gemma3.attention.sliding_window_pattern"}}
FROM_FOLDER_NAME = {"general.name", "general.size_label", "general.finetune"}  # not in the goldens
EXPLICIT = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"}  # false, what their absence means
# Transformers' Qwen2 class, through which the golden came, puts a token of its own behind the folder's 272.
QWEN2_TOKEN = {"tokenizer.ggml.tokens": "<|endoftext|>", "tokenizer.ggml.token_type": 3}
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], "bias": "none"}


def floats(data, dtype):
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + data[i:i + 2])[0] for i in range(0, len(data), 2)]
    return list(struct.unpack(f"<{len(data) // 4}f", data))


class ToGguf(harness.ThimbleCase):
    def check_metadata(self, name, metadata, expected):
        own = OWN_KEYS.get(name, set())
        self.assertEqual(set(metadata) - FROM_FOLDER_NAME - EXPLICIT - own, set(expected))
        self.assertLessEqual(own, set(metadata))
        self.assertEqual([metadata[key][1] for key in EXPLICIT], [False, False])
        for key, want in expected.items():
            kind, value = metadata[key]
            if name == "qwen2" and key in QWEN2_TOKEN:
                value[272] = QWEN2_TOKEN[key]
            if isinstance(want["value"], dict):
                lines = "\n".join(map(str, value)).encode()
                value = dict(length=len(value), sha256_of_lines=hashlib.sha256(lines).hexdigest())
            self.assertEqual((kind, value), (want["type"], want["value"]), key)

    def check_tensors(self, tensors, expected):
        expected = {t["name"]: t for t in expected}
        self.assertEqual(sorted(t.name for t in tensors), sorted(expected))
        for got in tensors:
            want = expected[got.name]
            self.assertEqual(got.shape, want["shape"], got.name)
            self.assertEqual(got.type, want["type"], got.name)
            if got.name != "rope_freqs.weight":  # computed, so the last bit may differ
                self.assertEqual(hashlib.sha256(got.data).hexdigest(), want["sha256"], got.name)

    def test_is_what_llama_cpp_makes(self):
        for folder in sorted(MODELS.iterdir()):
            with self.subTest(folder.name):
                out = self.dir / "out.gguf"
                self.thimble("convert", folder, "-o", out, "--outtype", "f32")
                expected = json.loads((folder / "gguf.json").read_text())
                metadata, tensors = read_gguf(out)
                self.check_metadata(folder.name, metadata, expected["metadata"])
                self.check_tensors(tensors, expected["tensors"])

    def test_name_and_size_come_from_the_folder(self):
        shutil.copytree(MODELS / "llama", self.dir / "Tiny-llama-0.1M-v2")
        self.thimble("convert", "Tiny-llama-0.1M-v2", "-o", "out.gguf")
        metadata, _ = read_gguf(self.dir / "out.gguf")
        self.assertEqual(metadata["general.name"][1], "Tiny Llama 0.1M v2")
        self.assertEqual(metadata["general.size_label"][1], "97K")

    def test_sampling_defaults_are_kept(self):
        shutil.copytree(MODELS / "llama", self.dir / "hf")
        self.write("hf/generation_config.json", {"eos_token_id": [1, 5], "temperature": 0.6, "top_k": 20, "top_p": 0.95})
        self.thimble("convert", "hf", "-o", "out.gguf")
        metadata, _ = read_gguf(self.dir / "out.gguf")
        self.assertEqual(metadata["general.sampling.top_k"], ("INT32", 20))
        self.assertAlmostEqual(metadata["general.sampling.temp"][1], 0.6, places=6)
        self.thimble("convert", "out.gguf", "-o", "back")
        generation = json.loads((self.dir / "back/generation_config.json").read_text())
        self.assertEqual((generation["temperature"], generation["top_p"], generation["top_k"]), (0.6, 0.95, 20))

    def test_outtypes(self):
        for outtype, file_type, matrix in [("f16", 1, "F16"), ("bf16", 32, "BF16"), ("q8_0", 7, "Q8_0")]:
            self.thimble("convert", MODELS / "llama", "-o", "out.gguf", "--outtype", outtype)
            metadata, tensors = read_gguf(self.dir / "out.gguf")
            self.assertEqual(metadata["general.file_type"], ("UINT32", file_type))
            for t in tensors:
                self.assertEqual(t.type, "F32" if len(t.shape) == 1 else matrix, t.name)

    def test_stored_type_is_kept(self):
        self.thimble("convert", MODELS / "qwen3", "-o", "out.gguf")  # stored as BF16
        metadata, tensors = read_gguf(self.dir / "out.gguf")
        self.assertEqual(metadata["general.file_type"][1], 32)
        self.assertEqual({t.type for t in tensors if len(t.shape) == 2}, {"BF16"})


class ToFolder(harness.ThimbleCase):
    def check_tensors(self, name, before, after):
        tied = "lm_head.weight" not in after
        self.assertEqual(set(after), set(before) - ({"lm_head.weight"} if tied else set()))
        for key, got in after.items():
            want = before[key]
            self.assertEqual((got.type, got.shape), (want.type, want.shape), key)
            if name.startswith("gemma") and "norm" in key:  # stored as 1 + w, which rounds
                for a, b in zip(floats(got.data, got.type), floats(want.data, want.type)):
                    self.assertLess(abs(a - b), 2e-7, key)
            else:
                self.assertEqual(got.data, want.data, key)

    def test_there_and_back(self):
        for folder in sorted(MODELS.iterdir()):
            with self.subTest(folder.name):
                self.thimble("convert", folder, "-o", "there.gguf")
                self.thimble("convert", "there.gguf", "-o", folder.name)
                back = self.dir / folder.name
                self.check_tensors(folder.name, read_safetensors(folder), read_safetensors(back))
                before, after = (json.loads((f / "tokenizer.json").read_text()) for f in (folder, back))
                self.assertEqual(after["model"]["vocab"], before["model"]["vocab"])
                self.assertEqual(after["model"]["merges"], before["model"]["merges"])
                config = json.loads((back / "config.json").read_text())
                for key in ["vocab_size", "model_type", "architectures", "head_dim", "sliding_window"]:
                    want = json.loads((folder / "config.json").read_text()).get(key)
                    if want is not None:  # a window in particular: Transformers' Llama would forget Mistral's
                        self.assertEqual(config[key], want, key)
                self.thimble("convert", folder.name, "-o", "again.gguf")
                self.assertEqual(read_gguf(self.dir / "again.gguf")[1], read_gguf(self.dir / "there.gguf")[1])

    def test_logits_are_the_same(self):
        for folder in sorted(MODELS.iterdir()):
            with self.subTest(folder.name):
                self.thimble("convert", folder, "-o", "there.gguf")
                self.thimble("convert", "there.gguf", "-o", folder.name)
                expected = json.loads((folder / "expected.json").read_text())["sequences"][0]
                for model in [folder, "there.gguf", folder.name]:
                    row = self.thimble_json("logits", model, "--ids", ",".join(map(str, expected["ids"])), "--top", 10,
                                            "--json", "--compute", "f32")[0]
                    self.assertEqual(row["ids"], expected["top10"]["ids"], model)
                    for got, want in zip(row["logits"], expected["top10"]["logits"]):
                        self.assertLess(abs(got - want), 1e-3, model)

    @harness.needs_smollm2
    def test_real_model_there_and_back(self):
        self.thimble("dequantize", harness.SMOLLM2, "-o", "f16.gguf")
        self.thimble("convert", harness.SMOLLM2, "-o", "hf")
        self.thimble("convert", "hf", "-o", "back.gguf")
        old_keys, old = read_gguf(self.dir / "f16.gguf")
        new_keys, new = read_gguf(self.dir / "back.gguf")
        old, new = ({t.name: t for t in tensors} for tensors in (old, new))
        self.assertEqual(set(new), set(old))
        for name, tensor in new.items():
            if len(tensor.shape) == 2:  # vectors went through F16
                self.assertEqual(tensor, old[name])
        for key, value in old_keys.items():
            if key.startswith("llama.") or key.startswith("tokenizer.ggml.t") or key.endswith("_token_id"):
                self.assertEqual(new_keys[key], value, key)

    def test_outtype_and_full_folder(self):
        self.thimble("convert", MODELS / "llama", "-o", "there.gguf")
        self.thimble("convert", "there.gguf", "-o", "half", "--outtype", "bf16")
        self.assertEqual({t.type for t in read_safetensors(self.dir / "half").values()}, {"BF16"})
        self.assertEqual(json.loads((self.dir / "half/config.json").read_text())["torch_dtype"], "bfloat16")
        self.thimble_fails("convert", "there.gguf", "-o", "half", says=["half", "not an empty folder"])
        self.thimble_fails("convert", "there.gguf", "-o", "q", "--outtype", "q8_0", says="F32, F16 or BF16")
        self.assertFalse((self.dir / "q").exists())


class Portable(harness.ThimbleCase):
    def test_native_types_become_ggufs(self):
        for native, portable in [("T2", "Q5_0"), ("T3", "Q5_1"), ("T4", "Q8_0"), ("T5", "Q8_0")]:
            self.thimble("quantize", MODELS / "llama", "-o", "native.gguf", "--type", native, "--tensor-type", "attn_q=Q4_0",
                         "--tensor-type", f".*={native}")
            out = self.thimble("convert", "native.gguf", "--portable", "-o", "out.gguf")
            self.assertIn("14 of 21 tensors rounded to GGUF's types", out)
            before, after = (read_gguf(self.dir / name)[1] for name in ["native.gguf", "out.gguf"])
            for a, b in zip(before, after, strict=True):
                self.assertEqual(b.type, portable if a.type == native else a.type, a.name)
                if a.type != native:
                    self.assertEqual(a.data, b.data, a.name)
            metadata, _ = read_gguf(self.dir / "out.gguf")
            self.assertEqual(metadata["general.file_type"][1], {"Q5_0": 8, "Q5_1": 9, "Q8_0": 7}[portable])
            logits = []
            for name in ["native.gguf", "out.gguf"]:
                row = self.thimble_json("logits", name, "--ids", "1,2", "--top", 272, "--json")[0]
                logits.append([logit for _, logit in sorted(zip(row["ids"], row["logits"], strict=True))])
            self.assertLess(math.dist(*logits), 0.3 * math.hypot(*logits[0]))

    def test_what_has_no_native_types_is_copied(self):
        self.thimble("quantize", MODELS / "llama", "-o", "q8.gguf", "--type", "Q8_0")
        self.assertIn("0 of 21", self.thimble("convert", "q8.gguf", "--portable", "-o", "out.gguf"))
        self.assertEqual((self.dir / "q8.gguf").read_bytes(), (self.dir / "out.gguf").read_bytes())

    def test_refusals(self):
        self.thimble("quantize", MODELS / "llama", "-o", "t3.gguf", "--type", "T3")
        self.thimble_fails("convert", "t3.gguf", "--portable", "--outtype", "f16", "-o", "o.gguf",
                           says="leave --outtype out")
        self.thimble_fails("convert", MODELS / "llama", "--portable", "-o", "o.gguf", says="a GGUF file of a GGUF file")
        self.thimble_fails("convert", "t3.gguf", "--portable", "-o", "t3.gguf", says="t3.gguf")


class Refusals(harness.ThimbleCase):
    def test_same_kind(self):
        self.thimble_fails("convert", MODELS / "llama", "-o", "folder", says=["both Hugging Face folders", ".gguf"])
        self.thimble("convert", MODELS / "llama", "-o", "a.gguf")
        self.thimble_fails("convert", "a.gguf", "-o", "b.gguf", says=["both GGUF", "thimble quantize"])

    def test_unknown_tensor_is_not_dropped(self):
        shutil.copytree(MODELS / "llama", self.dir / "hf")
        tensors = {n: (t.shape, floats(t.data, t.type)) for n, t in read_safetensors(self.dir / "hf").items()}
        write_safetensors(self.dir / "hf/model.safetensors", tensors | {"model.layers.0.gate.weight": ([1], [0.0])})
        self.thimble_fails("convert", "hf", "-o", "out.gguf", says=["hf", "model.layers.0.gate.weight"])
        write_safetensors(self.dir / "hf/model.safetensors",
                          tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": ([1], [0.0])})
        self.thimble("convert", "hf", "-o", "out.gguf")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        write_safetensors(self.dir / "hf/model.safetensors", tensors)
        self.thimble_fails("convert", "hf", "-o", "out.gguf", says=["hf", "model.layers.1.mlp.up_proj.weight"])

    def test_not_finite(self):
        shutil.copytree(MODELS / "llama", self.dir / "hf")
        tensors = {n: (t.shape, floats(t.data, t.type)) for n, t in read_safetensors(self.dir / "hf").items()}
        tensors["lm_head.weight"][1][7] = math.nan
        write_safetensors(self.dir / "hf/model.safetensors", tensors)
        self.thimble_fails("convert", "hf", "-o", "out.gguf", "--outtype", "f16", says=["hf", "lm_head.weight", "finite"])
        self.assertFalse((self.dir / "out.gguf").exists())

    def test_damaged_files(self):
        self.thimble("convert", MODELS / "llama", "-o", "good.gguf")
        good = (self.dir / "good.gguf").read_bytes()
        for size in [0, 3, 20, 1000, len(good) - 1]:
            self.write("bad.gguf", good[:size])
            self.thimble_fails("convert", "bad.gguf", "-o", "out", says="bad.gguf")
            self.assertFalse((self.dir / "out").exists())
        (self.dir / "bad").mkdir()
        self.write("bad/config.json", "{")
        self.thimble_fails("convert", "bad", "-o", "out.gguf", says="bad/config.json")


class Adapters(harness.ThimbleCase):
    def make_adapter(self, name, config):
        rng = random.Random(3)
        (self.dir / name).mkdir()
        self.write(f"{name}/adapter_config.json", config)
        tensors = {}
        for module, n_in, n_out in [("self_attn.q_proj", 64, 64), ("mlp.down_proj", 96, 64)]:
            for layer in range(2):
                prefix = f"base_model.model.model.layers.{layer}.{module}"
                rank = config["r"]
                tensors[prefix + ".lora_A.weight"] = ([rank, n_in], [rng.gauss(0, 0.1) for _ in range(rank * n_in)])
                tensors[prefix + ".lora_B.weight"] = ([n_out, rank], [rng.gauss(0, 0.1) for _ in range(rank * n_out)])
        write_safetensors(self.dir / name / "adapter_model.safetensors", tensors)

    def logits(self, adapter):
        return self.thimble_json("logits", MODELS / "llama", "--ids", "5,17,100,33", "--top", 272, "--json", "--compute",
                                 "f32", *(["--adapter", adapter] if adapter else []))[0]

    def test_there_and_back(self):
        for config in [LORA, LORA | {"use_rslora": True}, LORA | {"alpha_pattern": {"layers.1.mlp.down_proj": 3}}]:
            with self.subTest(config):
                for path in [self.dir / "a", self.dir / "back"]:
                    shutil.rmtree(path, ignore_errors=True)
                self.make_adapter("a", config)
                self.thimble("convert", "a", "-o", "a.gguf", "--base", MODELS / "llama")
                self.thimble("convert", "a.gguf", "-o", "back", "--base", MODELS / "llama")
                want, nothing = self.logits("a"), self.logits(None)
                self.assertNotEqual(want["ids"], nothing["ids"])
                for adapter in ["a.gguf", "back"]:
                    got = self.logits(adapter)
                    by_id = dict(zip(got["ids"], got["logits"]))
                    for token, logit in zip(want["ids"], want["logits"]):
                        self.assertLess(abs(by_id[token] - logit), 1e-4, adapter)
                metadata, tensors = read_gguf(self.dir / "a.gguf")
                self.assertEqual(metadata["general.type"][1], "adapter")
                self.assertEqual({t.name for t in tensors},
                                 {f"blk.{i}.{m}.weight.lora_{x}" for i in (0, 1) for m in ("attn_q", "ffn_down")
                                  for x in "ab"})
                back = json.loads((self.dir / "back/adapter_config.json").read_text())
                self.assertEqual(sorted(back["target_modules"]), ["down_proj", "q_proj"])

    def test_refusals(self):
        self.make_adapter("a", LORA)
        self.thimble_fails("convert", "a", "-o", "a.gguf", says=["a", "--base"])
        self.thimble_fails("convert", "a", "-o", "b", "--base", MODELS / "llama", says="both PEFT folders")
        self.thimble_fails("convert", "a", "-o", "a.gguf", "--base", MODELS / "gemma3_text", says="a: tensor")
        self.make_adapter("dora", LORA | {"use_dora": True})
        self.thimble_fails("convert", "dora", "-o", "a.gguf", "--base", MODELS / "llama", says="has no magnitudes")
        config = json.loads((MODELS / "llama/config.json").read_text())
        n = config["num_key_value_heads"] * config["head_dim"]
        (self.dir / "ia3").mkdir()
        (self.dir / "ia3/adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
        write_safetensors(self.dir / "ia3/adapter_model.safetensors",
                          {"base_model.model.model.layers.0.self_attn.k_proj.ia3_l": ([n, 1], [0.5] * n)})
        self.thimble_fails("convert", "ia3", "-o", "a.gguf", "--base", MODELS / "llama", says="only LoRA and rsLoRA")
        self.assertEqual(list(self.dir.glob("*.gguf*")), [])


if __name__ == "__main__":
    harness.main()
