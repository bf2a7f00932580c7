#!/usr/bin/env python3
"""thimble eval, report, bench and doctor."""
import csv
import hashlib
import json
import random
import re

import harness

MODELS = harness.ROOT / "tests/golden/models"
LLAMA = MODELS / "llama"
TEXT = harness.ROOT / "examples/demo/eval_text.txt"
KEYS = ["ppl", "ppl_se", "kld_mean", "kld_median", "kld_p99", "top1_agreement", "bytes", "bits_per_weight",
        "tokens_per_second", "peak_rss_bytes", "n_tokens"]
SMALL = ["-c", 32, "-t", 1]


def words(n, seed=0):
    """Text whose tokens the tiny tokenizer knows."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choice("abcdefghij") for _ in range(rng.randint(1, 8))) for _ in range(n))


def embedded(page):
    """What the report's script will read."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


class Eval(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.text = self.write("text.txt", words(100))

    def eval(self, *args, model=LLAMA):
        """What is printed, and the JSON."""
        said = self.thimble("eval", model, *SMALL, "--json", "out.json", *args)
        return said, json.loads((self.dir / "out.json").read_text())

    def test_perplexity_alone(self):
        said, out = self.eval("--text", self.text)
        self.assertEqual(list(out)[3:14], KEYS)
        n_windows = len(self.thimble_json("tokenize", LLAMA, "--file", self.text, "--json")) // 32
        self.assertEqual(out["n_tokens"], n_windows * 15)
        self.assertGreater(out["ppl"], 1)
        self.assertIsNone(out["kld_mean"])
        self.assertEqual(out["bits_per_weight"], 32)
        self.assertEqual(out["bytes"], (LLAMA / "model.safetensors").stat().st_size)
        self.assertGreater(out["tokens_per_second"], 0)
        self.assertGreater(out["peak_rss_bytes"], 1e6)
        self.assertEqual(out["name"], "llama")
        self.assertIn(f"{out['ppl']:.4f} +- {out['ppl_se']:.4f}", said)

    def test_against_a_reference(self):
        said, out = self.eval("--text", self.text, "--compute", "f32", "--reference", LLAMA)
        self.assertAlmostEqual(out["kld_mean"], 0, places=6)
        self.assertEqual(out["top1_agreement"], 1)
        self.assertEqual({layer["relative_error"] for layer in out["layers"]}, {0})
        said, out = self.eval("--text", self.text, "--reference", MODELS / "llama_rope_linear", "--max-windows", 3)
        self.assertEqual(out["n_tokens"], 45)
        self.assertGreater(out["kld_mean"], 0)
        self.assertLessEqual(out["kld_median"], out["kld_p99"])
        self.assertIn("same top token", said)
        self.assertEqual(len(out["layers"]), 2 * 7)

    def test_against_a_saved_reference(self):
        other = MODELS / "llama_rope_linear"
        texts = ["--text", f"one={self.text}", "--text", self.write("two.txt", words(60, 1)), "--compute", "f32"]
        exact = self.eval(*texts, "--reference", other)[1]
        self.eval(*texts, "--save-reference", "r.tref", model=other)
        said, out = self.eval(*texts, "--reference", "r.tref")
        self.assertEqual([t["name"] for t in out["texts"]], ["one", "two"])
        for got, want in zip([out, *out["texts"]], [exact, *exact["texts"]]):
            self.assertAlmostEqual(got["kld_mean"], want["kld_mean"], delta=0.02 * want["kld_mean"])
            self.assertAlmostEqual(got["reference_ppl"], want["reference_ppl"], delta=1e-4 * want["reference_ppl"])
            for key in "ppl", "top1_agreement", "n_tokens":
                self.assertEqual(got[key], want[key], key)
        self.assertEqual(out["reference_bytes"], (other / "model.safetensors").stat().st_size)
        self.assertEqual(out["inputs"], exact["inputs"][:-1] + [exact["inputs"][-1] | {"path": str(other)}])
        weights = hashlib.sha256((other / "model.safetensors").read_bytes()).hexdigest()
        self.assertEqual(out["inputs"][-1]["sha256"], weights)
        self.assertEqual(out["inputs"][1]["sha256"], hashlib.sha256(self.text.read_bytes()).hexdigest())
        self.assertIn("--- two", said)
        # A part of it will do; more, or another text, will not.
        self.eval("--text", self.text, "--max-windows", 2, "--reference", "r.tref")
        refused = ["eval", LLAMA, "--reference", "r.tref", "-t", 1]
        self.thimble_fails(*refused, "--text", self.text, "-c", 16, says=["r.tref", "-c 32"])
        self.thimble_fails(*refused, "--text", self.write("new.txt", words(60, 2)), "-c", 32, says="another text")
        self.write("longer.txt", self.text.read_text() + words(60, 3))
        self.thimble_fails(*refused, "--text", "longer.txt", "-c", 32, says="--max-windows")
        (self.dir / "cut.tref").write_bytes((self.dir / "r.tref").read_bytes()[:-100])
        self.thimble_fails("eval", LLAMA, *SMALL, "--text", self.text, "--reference", "cut.tref", says="cut short")

    def test_saving_a_reference_computes_in_f32(self):
        save = ["--text", self.text, "--save-reference", "r.tref"]
        self.assertEqual(self.eval(*save)[1]["compute"], "f32")
        self.thimble_fails("eval", LLAMA, *save, "--compute", "int8", says="F32")
        self.thimble_fails("eval", LLAMA, *save, "--reference", LLAMA, says="--reference")
        self.thimble_fails("eval", LLAMA, "--data", "x", "--save-reference", "r.tref", says="--text")
        self.thimble_fails("eval", LLAMA, *SMALL, "--text", self.text, "--save-reference", "no/r.tref", says="no/r.tref")

    def test_the_worst_positions(self):
        out = self.eval("--text", self.text, "--reference", MODELS / "llama_rope_linear", "--compute", "f32")[1]
        klds = [w["kld"] for w in out["worst"]]
        self.assertEqual(len(klds), 10)
        self.assertEqual(klds, sorted(klds, reverse=True))
        self.assertGreaterEqual(klds[0], out["kld_p99"])
        for example in out["worst"]:
            self.assertIn(example["context"].strip(), self.text.read_text())
            for side in "reference", "model":
                p = [guess["p"] for guess in example[side]]
                self.assertEqual((len(p), p), (3, sorted(p, reverse=True)))
        self.assertEqual(self.eval("--text", self.text)[1]["worst"], [])

    def test_names_of_texts(self):
        self.thimble_fails("eval", LLAMA, *SMALL, "--text", self.text, "--text", self.text, says="NAME=")
        self.thimble_fails("eval", LLAMA, *SMALL, "--text", f"={self.text}", says="no name")
        odd = self.write("a=b.txt", words(60))
        self.assertEqual(self.eval("--text", "a=b.txt")[1]["texts"][0]["name"], "a=b")
        self.assertEqual(self.eval("--text", odd)[1]["text"], str(odd))

    def test_through_a_cache(self):
        qwen, exact = MODELS / "qwen3", ["--text", self.text, "--compute", "f32", "--reference", MODELS / "qwen3"]
        kld = {k: self.eval(*exact, "-ctk", k, "-ctv", "f32", model=qwen)[1]["kld_mean"]
               for k in ["f32", "f16", "q8_0", "q4_0"]}
        self.assertEqual(kld["f32"], 0)
        self.assertLess(kld["f16"], 0.1 * kld["q8_0"])
        self.assertLess(kld["q8_0"], 0.1 * kld["q4_0"])

    def test_multiple_choice(self):
        lines = [{"query": "abc", "choices": ["d", "a much longer one", "ef"], "gold": gold} for gold in range(3)]
        task = self.write("task.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        said, out = self.eval("--task", task, "--task", f"again={task}")
        self.assertEqual([t["name"] for t in out["tasks"]], ["task", "again"])
        one, again = out["tasks"]
        self.assertEqual((one["total"], one["acc"], one["acc_norm"]), (3, 1 / 3, 1 / 3))  # a third is right by design
        self.assertEqual(one["items"], [one["items"][0] | {"gold": gold} for gold in range(3)])
        best = one["items"][0]["log_likelihoods"]
        self.assertEqual(one["items"][0]["acc"], best.index(max(best)))
        self.assertEqual(again["items"], one["items"])
        self.assertTrue(0 < one["acc_interval"][0] < 1 / 3 < one["acc_interval"][1] < 1)
        self.assertIsNone(out["ppl"])
        self.assertIn("accuracy          1 of 3 (33.3 %", said)
        self.thimble("eval", LLAMA, *SMALL, "--task", task, "--report", "tasks.html")
        self.assertEqual(embedded(self.dir / "tasks.html")["records"][0]["tasks"][0]["items"], one["items"])
        self.assertEqual(out["inputs"][-1]["sha256"], hashlib.sha256(task.read_bytes()).hexdigest())
        self.thimble_fails("eval", LLAMA, "--task", self.write("bad.jsonl", '\n{"query": "a"}\n'), says="bad.jsonl:2")
        self.thimble_fails("eval", LLAMA, "--task", "absent.jsonl", says="absent.jsonl")

    def test_exact_match(self):
        prompt = {"prompt": "Hello ", "completion": "?"}
        answer = self.thimble("run", LLAMA, "--raw", "-p", "Hello ", "--temp", 0, "-n", 10, "-q", "-t", 1)[:-1]
        data = self.write("data.jsonl", json.dumps(prompt | {"completion": answer}) + "\n" + json.dumps(prompt) + "\n")
        said, out = self.eval("--data", data, "-n", 10)
        self.assertEqual((out["exact_match"]["correct"], out["exact_match"]["total"]), (1, 2))
        self.assertEqual([w["expected"] for w in out["exact_match"]["wrong"]], ["?"])
        self.assertIsNone(out["ppl"])
        self.assertIn("exact match       1 of 2 (50.0 %", said)
        # Of two classes one is answered twice, once rightly; the scores themselves are eval_test's matter.
        self.assertAlmostEqual(out["exact_match"]["macro_f1"]["score"], 100 * (2 / 3 + 0) / 2)
        for key in "bleu", "chrf":
            score = out["exact_match"][key]
            self.assertTrue(0 <= score["low"] <= score["score"] <= score["high"] <= 100.0001, score)
        self.assertIn("chrF              ", said)

    def test_what_is_wrong_is_said(self):
        self.thimble_fails("eval", LLAMA, says=["--text", "--data"])
        self.thimble_fails("eval", LLAMA, "--text", self.write("short.txt", "too short"),
                           says=["the text has", "at least 512", "--ctx-size"])
        self.thimble_fails("eval", LLAMA, "--text", "absent.txt", says="absent.txt")
        self.thimble_fails("eval", LLAMA, *SMALL, "--text", self.text, "--reference", MODELS / "qwen2",
                           says=["qwen2", "vocabulary"])
        self.thimble_fails("eval", LLAMA, "--data", self.write("bad.jsonl", '{"prompt": 1}\n'), says="bad.jsonl:1")
        self.thimble_fails("eval", LLAMA, "--data", self.write("empty.jsonl", ""), says="empty.jsonl")
        self.thimble_fails("eval", LLAMA, *SMALL, "--text", self.text, "--json", "no/such/folder.json", says="no/such")

    def test_reports(self):
        evil = "<script>alert(1)</script>"
        self.eval("--text", self.text, "--name", evil, "--report", "one.html")
        page = (self.dir / "one.html").read_text()
        self.assertNotIn(evil, page)
        self.assertIn("&lt;script&gt;alert(1)", page)
        self.eval("--text", self.text, "--name", "plain")
        (self.dir / "run").mkdir()
        self.write("run/log.jsonl", '{"step": 1, "loss": 2.5}\n{"step": 1, "eval_loss": 2.25}\n')
        self.thimble("report", "out.json", "-o", "all.html", "--tune", "run", "--title", "Both")
        page = (self.dir / "all.html").read_text()
        data = embedded(self.dir / "all.html")
        self.assertEqual([e["name"] for e in data["records"]], ["plain"])
        self.assertEqual([t["name"] for t in data["tunes"]], ["run"])
        self.assertIn("<title>Both</title>", page)
        self.thimble_fails("report", "-o", "none.html", says="at least one")
        self.thimble_fails("report", self.write("bad.json", {"bytes": 5}), "-o", "none.html", says="bad.json")
        self.thimble_fails("report", "--tune", "absent.jsonl", "-o", "none.html", says="absent.jsonl")
        self.assertFalse((self.dir / "none.html").exists())

    def test_the_demos_text_is_long_enough_even_for_a_large_vocabulary(self):
        self.assertGreater(len(TEXT.read_text(encoding="utf-8").split()), 2500)

    def test_bench(self):
        rows = self.thimble_json("bench", LLAMA, "-p", "16,8", "-n", 4, "-r", 3, "-t", "1,2", "-o", "json", "--json", "b.json")
        self.assertEqual([(r["n_threads"], r["test"]) for r in rows],
                         [(t, test) for t in (1, 2) for test in ("pp16", "pp8", "tg4")])
        for row in rows:
            self.assertEqual(sorted(row["samples_ts"])[1], row["median_ts"])
            self.assertGreater(row["read_ordinary_bytes_per_second"], 1e8)
            self.assertEqual((row["packed_bytes"], row["released_bytes"]), (0, 0))  # F32 stays where it is
        self.assertGreater(rows[2]["bytes_per_token"], 1e4)
        self.assertAlmostEqual(rows[2]["share_of_bound"], rows[2]["bytes_per_token"] * rows[2]["median_ts"] / max(
            rows[2]["read_ordinary_bytes_per_second"], rows[2]["read_huge_bytes_per_second"]))
        self.assertEqual([r["test"] for r in json.loads((self.dir / "b.json").read_text())], [r["test"] for r in rows])
        self.thimble("quantize", LLAMA, "-o", self.dir / "q8.gguf", "--type", "Q8_0")
        packed = self.thimble_json("bench", self.dir / "q8.gguf", "-p", 0, "-n", 1, "-r", 1, "-t", 1, "-o", "json")[0]
        self.assertGreaterEqual(packed["packed_bytes"], packed["released_bytes"])
        self.assertGreater(packed["released_bytes"], 0)
        table = self.thimble("bench", LLAMA, MODELS / "qwen2", "-p", 0, "-n", 4, "-r", 1, "-t", 1)
        self.assertEqual([line.split("|")[6].strip() for line in table.splitlines() if "qwen2" in line or "llama" in line],
                         ["tg4", "tg4"])
        self.assertIn("1 thread: memory is read at", table)
        lines = self.thimble("bench", LLAMA, "-p", 4, "-n", 4, "-r", 1, "-t", 1, "-o", "csv").splitlines()
        self.assertEqual([len(list(csv.reader([line]))[0]) for line in lines], [lines[0].count(",") + 1] * 3)
        self.thimble_fails("bench", LLAMA, "-p", 0, "-n", 0, says="nothing to measure")
        self.thimble_fails("bench", LLAMA, "-p", "1,x", says="-p")

    def test_doctor(self):
        self.assertRegex(self.thimble("doctor", env={"THIMBLE_ISA": ""}), r"kernels used +\w+: the best")
        self.assertRegex(self.thimble("doctor", env={"THIMBLE_ISA": "ref"}), r"kernels used +ref: named by")
        self.assertRegex(self.thimble("doctor", "--measure"), r"huge pages +\w+\ninstruction sets +\w[^$]*with 1 thread +memory is read")
        self.thimble_fails("doctor", env={"THIMBLE_ISA": "abacus"}, says="abacus")


@harness.needs_smollm2
class SmolLm2(harness.ThimbleCase):
    def test_the_demos_text(self):
        self.thimble("eval", harness.SMOLLM2, "--text", TEXT, "--chunks", 2, "--json", "out.json")
        out = json.loads((self.dir / "out.json").read_text())
        self.assertEqual(out["n_tokens"], 2 * 255)
        self.assertAlmostEqual(out["bits_per_weight"], 5.8, delta=0.3)
        self.assertTrue(8 < out["ppl"] < 40, out["ppl"])


if __name__ == "__main__":
    harness.main()
