#!/usr/bin/env python3
"""thimble compare."""
import json
import random
import shlex

import harness

MODELS = harness.ROOT / "tests/golden/models"
LLAMA, OTHER = MODELS / "llama", MODELS / "llama_rope_linear"


def words(n, seed):
    """Text whose tokens the tiny tokenizer knows."""
    rng = random.Random(seed)
    return " ".join("".join(rng.choice("abcdefghij") for _ in range(rng.randint(1, 8))) for _ in range(n))


class Compare(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.one, self.two = self.write("one.txt", words(100, 0)), self.write("two.txt", words(80, 1))
        self.small = ["-c", 32, "-t", 1]
        self.texts = ["--text", self.one, "--text", f"second={self.two}", *self.small]

    def compare(self, *args):
        """What is printed, and the JSON."""
        said = self.thimble("compare", *args, "--json", "out.json")
        return said, json.loads((self.dir / "out.json").read_text())

    def test_rows_say_what_eval_says(self):
        said, out = self.compare(LLAMA, f"other={OTHER}", "--reference", LLAMA, *self.texts)
        rows = {(row["model"], row["text"]): row for row in out["rows"]}
        self.assertEqual(list(rows), [("llama", "one"), ("other", "one"), ("llama", "second"), ("other", "second")])
        self.thimble("eval", LLAMA, "--save-reference", "r.tref", *self.texts)
        for name, model in [("llama", LLAMA), ("other", OTHER)]:
            self.thimble("eval", model, "--reference", "r.tref", "--json", "eval.json", *self.texts)
            for text in json.loads((self.dir / "eval.json").read_text())["texts"]:
                row = rows[name, text["name"]]
                for key in "ppl", "kld_mean", "kld_p99", "top1_agreement", "n_tokens":
                    self.assertAlmostEqual(row[key], text[key], places=12, msg=key)
                self.assertAlmostEqual(row["ppl_ratio"], text["ppl"] / text["reference_ppl"])
        for text in "one", "second":
            same, other = rows["llama", text], rows["other", text]
            self.assertAlmostEqual(same["kld_mean"], 0, delta=1e-5)
            self.assertIsNone(same["kld_less_first"])
            self.assertAlmostEqual(other["kld_less_first"], other["kld_mean"] - same["kld_mean"])
            low, high = other["kld_less_first_interval"]
            self.assertTrue(0 < low < other["kld_less_first"] < high)
            self.assertEqual(same["right_to_wrong"] + same["wrong_to_right"], 0)
        self.assertEqual([m["name"] for m in out["models"]], ["llama", "other"])
        self.assertEqual(out["reference"]["sha256"], out["models"][0]["sha256"])
        self.assertEqual([line.split(" | ")[0] for line in said.splitlines()[2:6]],
                         ["| llama", "| other", "| llama", "| other"])
        for model in out["models"]:
            self.assertGreater(model["tokens_per_second"], 0)
        # A reference from a file gives the same.
        again = self.compare(LLAMA, f"other={OTHER}", "--reference", "r.tref", *self.texts)[1]
        self.assertEqual(again["rows"], out["rows"])
        self.assertEqual(again["reference"], out["reference"])

    def test_the_command_line_repeats_it(self):
        out = self.compare(f"the 'first' one={LLAMA}", f"$other={OTHER}", "--reference", LLAMA, *self.texts)[1]
        words = shlex.split(out["command"])
        self.assertEqual(words[:2], ["thimble", "compare"])
        self.thimble(*words[1:])
        self.assertEqual(json.loads((self.dir / "out.json").read_text())["rows"], out["rows"])
        self.assertEqual(out["rows"][0]["model"], "the 'first' one")

    def test_answers_that_flip(self):
        rng = random.Random(4)
        lines = [{"query": words(3, i), "choices": [words(1, 50 * i + j) for j in range(1, 4)], "gold": rng.randrange(3)}
                 for i in range(60)]
        task = self.write("task.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        said, out = self.compare(f"a={LLAMA}", f"b={OTHER}", f"c={LLAMA}", "--task", task, "-t", 1)
        self.assertEqual(out["rows"], [])
        self.assertIsNone(out["reference"])
        a, b, c = out["task_rows"]
        right = [[item["acc"] == item["gold"] for item in row["items"]] for row in (a, b)]
        lost = sum(x and not y for x, y in zip(*right)) / 60
        won = sum(y and not x for x, y in zip(*right)) / 60
        self.assertGreater(lost + won, 0)
        self.assertAlmostEqual(b["right_to_wrong"], lost)
        self.assertAlmostEqual(b["wrong_to_right"], won)
        self.assertAlmostEqual(b["acc_less_first"], won - lost)
        low, high = b["acc_less_first_interval"]
        self.assertTrue(low < won - lost < high)
        self.assertIsNone(a["right_to_wrong"])
        self.assertEqual((c["right_to_wrong"], c["wrong_to_right"], c["acc"]), (0, 0, a["acc"]))
        self.assertEqual([line.split(" | ")[0] for line in said.splitlines()[2:5]], ["| a", "| b", "| c"])
        both = self.compare(LLAMA, "--task", task, "--reference", LLAMA, *self.texts)[1]
        self.assertEqual((len(both["rows"]), len(both["task_rows"])), (2, 1))

    def test_what_is_wrong_is_said_before_the_work(self):
        ok = ["--reference", LLAMA, *self.texts]
        self.thimble_fails("compare", *ok, says="MODEL")
        self.thimble_fails("compare", LLAMA, *self.texts, says="--reference")
        self.thimble_fails("compare", LLAMA, "--reference", LLAMA, says="--text")
        self.thimble_fails("compare", LLAMA, "absent.gguf", *ok, says="absent.gguf")
        self.thimble_fails("compare", LLAMA, LLAMA, *ok, says=["llama", "NAME="])
        self.thimble_fails("compare", LLAMA, MODELS / "qwen2", *ok, says="vocabulary")
        self.thimble_fails("compare", LLAMA, "--reference", LLAMA, "--text", self.write("s.txt", "short"),
                           says=["s.txt", "at least 512"])
        self.thimble_fails("compare", LLAMA, *ok, "--json", "no/such.json", says="no/such")

    def test_records_make_a_table_of_what_was_taught(self):
        data = self.write("data.jsonl", '{"prompt": "the torch", "completion": " on"}\n' * 4)
        tune = ["tune", MODELS / "llama", "--data", data, "--threads", 1, "--max-steps", 2]
        self.thimble(*tune, "-o", "lora", "--rank", 4)
        self.thimble(*tune, "-o", "full", "--method", "full")
        self.write("summary.json", "[]")  # of something else, where lora=0.9 or a file of this folder stands
        for name, args in dict(base=[], lora=["--adapter", "lora=0.9"]).items():
            self.thimble("eval", MODELS / "llama", *args, "--data", data, "--name", name, "--json", f"{name}.json")
        self.thimble("eval", "full", "--data", data, "--name", "full", "--json", "full.json")
        header, _, *rows = self.thimble("compare", "base.json", "lora.json", "full.json").splitlines()
        table = [dict(zip(header.split(" | "), row.split(" | "), strict=True)) for row in rows]
        self.assertEqual([row["method"].strip() for row in table], ["", "lora", "full"])
        self.assertEqual([row["base"] for row in table], ["llama"] * 3)
        self.assertEqual([row["trained"].strip() for row in table], ["", "7424", "96576"])
        summary = json.loads((self.dir / "lora/summary.json").read_text())
        self.assertEqual(summary["saved_bytes"], (self.dir / "lora/adapter_model.safetensors").stat().st_size)
        self.assertEqual(table[1]["saved, MB"], f"{summary['saved_bytes'] / 1e6:.2f}")
        self.thimble_fails("compare", "base.json", MODELS / "llama", says="cannot be compared together")
        self.thimble_fails("compare", "base.json", "--task", data, says="without other flags")
        self.write("other.json", '{"kind": "fit"}')
        self.thimble_fails("compare", "other.json", says="other.json")


if __name__ == "__main__":
    harness.main()
