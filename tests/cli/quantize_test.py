#!/usr/bin/env python3
"""thimble quantize and dequantize: types, fallbacks, summaries, and what stays when they are stopped."""
import array
import json
import os
import re
import resource
import signal
import subprocess
import time

import harness
from gguf_reader import read_gguf

TINY = harness.ROOT / "tests/golden/models/llama"  # rows of 64 and 96


class Types(harness.ThimbleCase):
    def types(self, name="out.gguf"):
        return {t.name: t.type for t in read_gguf(self.dir / name)[1]}

    def test_every_type_of_blocks_of_32(self):
        for name, file_type, matrix in [("int8", 7, "Q8_0"), ("q4_0", 2, "Q4_0"), ("Q4_1", 3, "Q4_1"), ("Q5_0", 8, "Q5_0"),
                                        ("Q5_1", 9, "Q5_1"), ("IQ4_NL", 25, "IQ4_NL"), ("F16", 1, "F16"),
                                        ("BF16", 32, "BF16"), ("F32", 0, "F32"), ("T2", 60, "T2"), ("t3", 61, "T3"),
                                        ("T4", 62, "T4"), ("T5", 63, "T5")]:
            out = self.thimble("quantize", TINY, "-o", "out.gguf", "--type", name, "--pure")
            self.assertIn("bits per weight", out)
            self.assertNotIn("fell back", out)
            metadata, tensors = read_gguf(self.dir / "out.gguf")
            self.assertEqual(metadata["general.file_type"], ("UINT32", file_type))
            self.assertEqual(metadata["general.quantization_version"], ("UINT32", 2))
            for t in tensors:
                self.assertEqual(t.type, matrix if len(t.shape) == 2 else "F32", t.name)
            self.assertEqual(len(self.thimble_json("logits", "out.gguf", "--ids", "1,2", "--json")), 1)

    def test_rows_that_fit_no_block_fall_back(self):
        for name, fallback in [("Q2_K", "Q4_0"), ("Q3_K_S", "Q4_0"), ("Q4_K_S", "Q5_0"), ("Q5_K_S", "Q5_1"), ("Q6_K", "Q8_0"),
                               ("IQ4_XS", "IQ4_NL")]:
            out = self.thimble("quantize", TINY, "-o", "out.gguf", "--type", name, "--pure")
            self.assertIn("16 of 21 tensors", out)
            self.assertRegex(out, r"added \d\.\d\d bits per weight")
            self.assertEqual({t for n, t in self.types().items() if "norm" not in n}, {fallback}, name)

    def test_what_a_fallback_costs(self):
        out = self.thimble("quantize", TINY, "-o", "out.gguf", "--type", "F16", "--tensor-type", "attn_q=Q6_K")
        weights = sum(len(t.data) // 4 for t in read_gguf(TINY_F32(self))[1])
        added = 2 * 64 * 64 * (8.5 - 6.5625) / weights  # Q8_0 for Q6_K in two matrices
        self.assertIn(f"2 of 21 tensors ({200 * 64 * 64 / weights:.1f} % of the weights)", out)
        self.assertIn(f"added {added:.2f} bits", out)

    def test_overrides(self):
        self.thimble("quantize", TINY, "-o", "out.gguf", "--type", "Q4_0", "--tensor-type", "attn_(q|k)=q8_0",
                     "--tensor-type", "blk.1.ffn_down=F16", "--output-tensor-type", "Q5_1", "--token-embedding-type", "bf16")
        types = self.types()
        for name, want in [("blk.0.attn_q.weight", "Q8_0"), ("blk.1.attn_k.weight", "Q8_0"), ("blk.0.ffn_down.weight", "Q4_0"),
                           ("blk.1.ffn_down.weight", "F16"), ("output.weight", "Q5_1"), ("token_embd.weight", "BF16")]:
            self.assertEqual(types[name], want, name)

    def test_same_bytes_whatever_the_threads(self):
        for threads in [1, 3]:
            self.thimble("quantize", TINY, "-o", f"{threads}.gguf", "--type", "Q5_1", "-t", threads)
        self.assertEqual((self.dir / "1.gguf").read_bytes(), (self.dir / "3.gguf").read_bytes())

    def test_dequantize(self):
        self.thimble("quantize", TINY, "-o", "q.gguf", "--type", "Q8_0")
        for name, want in [(None, "F16"), ("f32", "F32"), ("BF16", "BF16")]:
            out = self.thimble("dequantize", "q.gguf", "-o", "out.gguf", *(["--type", name] if name else []))
            self.assertNotIn("quantized already", out)
            self.assertEqual({t for n, t in self.types().items() if "norm" not in n}, {want})
        # The values are on Q8_0's grid already, and quantizing them anew finds it.
        self.thimble("dequantize", "q.gguf", "-o", "f32.gguf", "--type", "F32")
        self.thimble("quantize", "f32.gguf", "-o", "again.gguf", "--type", "Q8_0")
        self.thimble("dequantize", "again.gguf", "-o", "f32-again.gguf", "--type", "F32")
        for a, b in zip(*(read_gguf(self.dir / name)[1] for name in ["f32.gguf", "f32-again.gguf"]), strict=True):
            self.assertEqual(array.array("f", a.data), array.array("f", b.data))

    def test_requantizing_is_said(self):
        self.thimble("quantize", TINY, "-o", "q8.gguf", "--type", "Q8_0")
        out = self.thimble("quantize", "q8.gguf", "-o", "q4.gguf", "--type", "Q4_0", "--pure")
        self.assertIn("16 tensors were quantized already", out)
        self.assertNotIn("already", self.thimble("quantize", "q8.gguf", "-o", "same.gguf", "--type", "Q8_0"))
        self.assertEqual(read_gguf(self.dir / "q8.gguf")[1], read_gguf(self.dir / "same.gguf")[1])

    @harness.needs_smollm2
    def test_small_types_need_importance(self):
        for name in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS"]:
            self.thimble_fails("quantize", harness.SMOLLM2, "-o", "x.gguf", "--type", name,
                               says=[f"--type {name}", "ffn_down.weight", "--imatrix", "--method imatrix"])
        self.thimble_fails("quantize", harness.SMOLLM2, "-o", "x.gguf", "--type", "Q4_0", "--tensor-type", "blk.3.ffn_down=IQ2_XS",
                           says="blk.3.ffn_down.weight")
        self.assertFalse((self.dir / "x.gguf").exists())

    @harness.needs_smollm2
    def test_k_types_of_a_real_model(self):
        out = self.thimble("quantize", harness.SMOLLM2, "-o", "smol.gguf", "--type", "Q4_K_M")
        self.assertIn("181 of 272 tensors", out)
        self.assertEqual({t.type for t in read_gguf(self.dir / "smol.gguf")[1]}, {"F32", "Q4_K", "Q5_0", "Q6_K", "Q8_0"})


class Methods(harness.ThimbleCase):
    """How weights are rounded: by themselves, by an importance matrix, with their errors fed back."""

    def setUp(self):
        super().setUp()
        words = "the quick brown fox jumps over a lazy dog and ".split()
        text = self.write("text.txt", "\n---\n".join(" ".join(words[i % 9:] * 12) for i in range(20)))
        self.calibration = ["--calibration", text, "--calibration-tokens", 2048, "--cache", self.dir / "cache"]

    def quantize(self, name, *args, model=TINY):
        self.thimble("quantize", model, "-o", name, "--type", "Q4_0", *args)
        self.assertEqual(len(self.thimble_json("logits", name, "--ids", "1,2", "--json")), 1)
        metadata, tensors = read_gguf(self.dir / name)
        return metadata, {t.name: t for t in tensors}

    def test_each_rounds_differently_to_the_same_types(self):
        self.thimble("imatrix", TINY, "-o", "i.gguf", *self.calibration)
        rtn = self.quantize("rtn.gguf")
        made = [rtn, self.quantize("imatrix.gguf", "--method", "imatrix", *self.calibration),
                self.quantize("gptq.gguf", "--method", "gptq", *self.calibration),
                self.quantize("file.gguf", "--imatrix", "i.gguf")]
        for metadata, tensors in made:
            self.assertEqual(metadata, rtn[0])
            self.assertEqual({n: t.type for n, t in tensors.items()}, {n: t.type for n, t in rtn[1].items()})
        for name in rtn[1]:
            data = [tensors[name].data for _, tensors in made]
            alike = len(set(data))
            # The embedding is not the output here, so that importance matrices do not name it.
            self.assertEqual(alike, 1 if "norm" in name else 3 if name == "token_embd.weight" else 4, name)

    def test_gptq_is_nearer_on_its_text(self):
        self.quantize("rtn.gguf")
        self.quantize("gptq.gguf", "--method", "gptq", *self.calibration)
        klds = []
        for name in "rtn.gguf", "gptq.gguf":
            self.thimble("eval", name, "--reference", TINY, "--text", "text.txt", "-c", 64, "--json", "eval.json")
            klds.append(json.loads((self.dir / "eval.json").read_text())["texts"][0]["kld_mean"])
        self.assertLess(klds[1], 0.9 * klds[0])

    def test_awq_scales_channels_and_keeps_types(self):
        rtn, awq = self.quantize("rtn.gguf"), self.quantize("awq.gguf", "--method", "awq", *self.calibration)
        self.assertEqual(awq[0], rtn[0])
        self.assertEqual({n: t.type for n, t in awq[1].items()}, {n: t.type for n, t in rtn[1].items()})
        scaled = [n for n in rtn[1] if n.endswith("_norm.weight") and awq[1][n].data != rtn[1][n].data]
        self.assertTrue(scaled)
        self.assertNotIn("output_norm.weight", scaled)

    def test_auto_says_what_it_took(self):
        out = self.thimble("quantize", TINY, "-o", "auto.gguf", "--type", "Q4_0", "--method", "auto", *self.calibration)
        said = re.search(r"rounded by: (.+)", out)[1]
        self.assertEqual(sum(int(n) for n in re.findall(r"(\d+) (?:rtn|imatrix|gptq)", said)), 16, said)

    def test_memory_does_not_change_the_file(self):
        # A layer of TINY has six Hessians of 64 columns and one of 96.
        layer = 4 * (6 * 64 * 64 + 96 * 96)
        for limit in layer, 10 * layer:
            self.thimble("quantize", TINY, "-o", f"{limit}.gguf", "--type", "Q4_0", "--method", "gptq", *self.calibration[:-1],
                         self.dir / f"cache{limit}", "--calibration-memory", limit)
        self.assertEqual((self.dir / f"{layer}.gguf").read_bytes(), (self.dir / f"{10 * layer}.gguf").read_bytes())
        base = ["quantize", TINY, "-o", "x.gguf", "--type", "Q4_0", "--method", "gptq", *self.calibration]
        self.thimble_fails(*base, "--calibration-memory", layer - 1, says=["--calibration-memory", "layer 0 alone"])
        self.thimble_fails(*base, "--calibration-memory", "2 cups", says=["--calibration-memory", "2 cups"])

    def test_from_the_cache_the_same(self):
        for name in "a.gguf", "b.gguf":
            self.quantize(name, "--method", "gptq", *self.calibration)
        self.assertEqual((self.dir / "a.gguf").read_bytes(), (self.dir / "b.gguf").read_bytes())

    def test_refusals(self):
        self.thimble("imatrix", TINY, "-o", "i.gguf", *self.calibration)
        base = ["quantize", TINY, "-o", "x.gguf", "--type", "Q4_0"]
        self.thimble_fails(*base, "--imatrix", "i.gguf", "--method", "gptq", says=["gptq", "leave --imatrix out"])
        self.thimble_fails(*base, "--imatrix", "i.gguf", "--method", "auto", says=["auto", "leave --imatrix out"])
        self.thimble_fails(*base, "--method", "best", says=["--method", "gptq"])
        for flag in ["--calibration", "text.txt"], ["--calibration-tokens", 100], ["--calibration-memory", "1GB"]:
            self.thimble_fails(*base, *flag, says=["--calibration", "--method rtn does not calibrate"])
            self.thimble_fails(*base, *flag, "--imatrix", "i.gguf", says=["--calibration", "--imatrix"])
        self.thimble_fails(*base, "--imatrix", "absent.gguf", says="absent.gguf")
        self.thimble_fails(*base, "--imatrix", self.write("old.dat", b"\0" * 100), says="old.dat")
        self.thimble("quantize", TINY, "-o", "model.gguf", "--type", "F16")
        self.thimble_fails(*base, "--imatrix", "model.gguf", says=["model.gguf", "not an importance matrix"])
        # Rows of 48 in the one, of 64 in the other.
        self.thimble_fails("quantize", harness.ROOT / "tests/golden/models/gemma3_text", "-o", "x.gguf", "--type", "Q4_0",
                           "--imatrix", "i.gguf", says=["i.gguf", "columns"])
        self.assertFalse((self.dir / "x.gguf").exists())


def TINY_F32(case):
    case.thimble("quantize", TINY, "-o", "f32.gguf", "--type", "F32")
    return case.dir / "f32.gguf"


class Refusals(harness.ThimbleCase):
    def test_over_the_input(self):
        self.thimble("quantize", TINY, "-o", "a.gguf", "--type", "F16")
        os.symlink("a.gguf", self.dir / "b.gguf")
        before = (self.dir / "a.gguf").read_bytes()
        for name in ["a.gguf", "./a.gguf", "b.gguf"]:
            self.thimble_fails("quantize", "a.gguf", "-o", name, "--type", "Q8_0", says=[name, "replace the input"])
        self.thimble_fails("quantize", "a.gguf", "-o", ".", "--type", "Q8_0", says="folder")
        self.assertEqual((self.dir / "a.gguf").read_bytes(), before)

    def test_flags(self):
        self.thimble_fails("quantize", TINY, "-o", "a.gguf", "--type", "Q9", says=["Q9", "Q4_K_M"])
        self.thimble_fails("quantize", TINY, "-o", "a.gguf", "--type", "Q8_0", "--tensor-type", "x", says="PATTERN=TYPE")
        self.thimble_fails("quantize", TINY, "-o", "a.gguf", "--type", "Q8_0", "--tensor-type", "(=F16",
                           says="regular expression")
        self.thimble_fails("quantize", TINY, "-o", "a.gguf", "--type", "Q8_0", "--output-tensor-type", "I32", says="I32")
        self.thimble_fails("dequantize", TINY, "-o", "a.gguf", "--type", "Q8_0", says="Q8_0")
        self.thimble_fails("quantize", "absent.gguf", "-o", "a.gguf", "--type", "Q8_0", says="absent.gguf")
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_damaged_input(self):
        self.thimble("quantize", TINY, "-o", "a.gguf", "--type", "F16")
        data = (self.dir / "a.gguf").read_bytes()
        for size in [0, 1, 30, 5000, len(data) - 1]:
            self.write("cut.gguf", data[:size])
            self.thimble_fails("quantize", "cut.gguf", "-o", "b.gguf", "--type", "Q8_0", says="cut.gguf")
        self.assertFalse((self.dir / "b.gguf").exists())


class Interruptions(harness.ThimbleCase):
    """Whatever stops the command, the old file stays and nothing else is left."""

    def setUp(self):
        super().setUp()
        self.write("out.gguf", b"the old file")

    def check_old_file(self, source=()):
        self.assertEqual((self.dir / "out.gguf").read_bytes(), b"the old file")
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), sorted(["out.gguf", *source]))

    def start(self, *args, **options):
        return subprocess.Popen([harness.PROGRAM, *map(str, args)], cwd=self.dir, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **options)

    def test_full_disk(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        process = self.start("quantize", TINY, "-o", "out.gguf", "--type", "F16", preexec_fn=limit)
        _, errors = process.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(process.returncode, 1)
        self.assertIn("out.gguf: cannot write", errors)
        self.assertIn("the old file, if any, is unchanged", errors)
        self.check_old_file()

    def interrupt(self, signals, code):
        process = self.start("quantize", harness.SMOLLM2, "-o", "out.gguf", "--type", "Q4_K_M", "-t", 1)
        deadline = time.time() + 60 * harness.PATIENCE
        while not list(self.dir.glob("out.gguf.tmp-*")) and time.time() < deadline:
            time.sleep(0.01)
        for s in signals:
            process.send_signal(s)
        _, errors = process.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(process.returncode, code, errors)
        self.check_old_file()
        return errors

    @harness.needs_smollm2
    def test_ctrl_c(self):
        self.assertIn("cancelled", self.interrupt([signal.SIGINT], 130))

    @harness.needs_smollm2
    def test_terminate(self):
        self.interrupt([signal.SIGTERM], 128 + signal.SIGTERM)


if __name__ == "__main__":
    harness.main()
