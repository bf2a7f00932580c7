#!/usr/bin/env python3
"""thimble fit and imatrix, on a model of a few thousand weights."""
import hashlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import time

import harness
from gguf_reader import mix_gguf, read_gguf

TINY = harness.ROOT / "tests/golden/models/llama_bias_tied"  # rows of 64 and 96; the output is the embedding
UNTIED = harness.ROOT / "tests/golden/models/llama"


def documents(n, seed, letters):
    """n documents of about 700 tokens of the tiny tokenizer, which knows single bytes and little more."""
    rng = random.Random(seed)
    word = lambda: "".join(rng.choice(letters) for _ in range(rng.randint(1, 8)))
    return "\n---\n".join(" ".join(word() for _ in range(180)) for _ in range(n))


class FitCase(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.dir = self.dir / "work"  # with the texts and the cache outside
        self.dir.mkdir()
        texts = self.dir.parent
        (texts / "one.txt").write_text(documents(20, 1, "abcdefghij"))
        (texts / "two.txt").write_text(documents(20, 2, "zyxwvutsrq"))
        self.cache = texts / "cache"
        self.texts = ["--calibration", texts / "one.txt", "--calibration", f"ko={texts / 'two.txt'}",
                      "--calibration-tokens", 4096, "--cache", self.cache, "-t", 1]

    def fit(self, *args, model=TINY, out="out.gguf", texts=True):
        """What is printed, and the JSON."""
        said = self.thimble("fit", model, "-o", out, *(self.texts if texts else []), "--json", "fit.json", *args)
        return said, json.loads((self.dir / "fit.json").read_text())

    def size(self, name="out.gguf"):
        return (self.dir / name).stat().st_size

    def nothing_is_left(self):
        self.assertEqual([p.name for p in self.dir.iterdir()], [])
        self.assertEqual([p for p in self.cache.rglob("*") if ".tmp-" in p.name or p.name.startswith("measured")], [])


class Budgets(FitCase):
    @harness.slow_in_an_emulator
    def test_sizes_hold_to_the_byte(self):
        _, least = self.fit("--size", "1MB", "--types", "Q4_0,Q5_0,Q8_0")
        front = least["front"]
        self.assertEqual(front[-1]["bytes"], self.size())
        seconds = []
        for budget in [front[0]["bytes"], front[0]["bytes"] + 1, front[3]["bytes"] - 1, front[5]["bytes"], 60_001]:
            if budget < front[0]["bytes"]:
                continue
            said, out = self.fit("--size", budget, "--types", "Q4_0,Q5_0,Q8_0")
            self.assertLessEqual(self.size(), budget)
            self.assertEqual(out["bytes"], self.size())
            self.assertIn("bits per weight", said)
            self.assertEqual(len(self.thimble_json("logits", "out.gguf", "--ids", "1,2", "--json")), 1)
            seconds.append(out["seconds"])
        self.fit("--size", front[5]["bytes"], "--types", "Q4_0,Q5_0,Q8_0")
        self.assertEqual(self.size(), front[5]["bytes"])  # a choice that exists is found

    @harness.slow_in_an_emulator
    def test_a_source_without_a_file_type(self):
        """The keys that are added count too."""
        self.thimble("convert", TINY, "-o", "f32.gguf", "--outtype", "f32")
        for model in TINY, "f32.gguf":
            _, out = self.fit("--size", "1MB", "--types", "Q4_0,Q8_0", model=model)
            self.assertEqual(out["bytes"], self.size())
            metadata, _ = read_gguf(self.dir / "out.gguf")
            self.assertEqual(metadata["general.file_type"], ("UINT32", 7))
            self.assertEqual(metadata["general.quantization_version"], ("UINT32", 2))

    def test_what_the_json_says(self):
        said, out = self.fit("--size", "60kB")
        metadata, tensors = read_gguf(self.dir / "out.gguf")
        self.assertEqual([(t["name"], t["type"]) for t in out["tensors"]], [(t.name, t.type) for t in tensors])
        for t in out["tensors"]:
            self.assertEqual(t["expected_kld"] > 0, t["name"].endswith("weight") and "norm" not in t["name"], t)
            self.assertEqual(t["relative_error"] > 0, t["expected_kld"] > 0)
        data = sum(len(t.data) for t in tensors)
        weights = sum(len(t.data) // 4 for t in read_gguf(self.f32())[1])
        self.assertAlmostEqual(out["bits_per_weight"], 8 * data / weights)
        self.assertEqual(out["selection"], [])  # no goal that is measured
        rows = out["scoring"]
        self.assertEqual([row["text"] for row in rows], ["all", "one", "ko"])
        self.assertEqual(rows[0]["tokens"], rows[1]["tokens"] + rows[2]["tokens"])
        for row in rows:
            self.assertTrue(0 < row["kld_mean"] < 1 and 0 <= row["top1_agreement"] <= 1 and row["ppl_ratio"] > 0, row)
        self.assertEqual((out["cache_type_k"], out["cache_type_v"]), ("F16", "F16"))
        self.assertIn(f"{TINY} ", out["command"])
        self.assertTrue(out["command"].startswith("thimble fit "))
        self.assertTrue(any(row.startswith("ko ") for row in said.splitlines()))
        sizes, klds = [p["bytes"] for p in out["front"]], [p["kld"] for p in out["front"]]
        self.assertEqual(sizes, sorted(set(sizes)))
        self.assertEqual(klds, sorted(klds, reverse=True))
        # What is expected of this choice is near what is measured: the solver's bar is 20 %.
        self.assertLess(abs(out["expected_kld"] / out["scoring"][0]["kld_mean"] - 1), 0.2)

    @harness.slow_in_an_emulator
    def test_what_the_report_is_drawn_from(self):
        said, out = self.fit("--size", "60kB", "--max-kld", "0.05", "--max-kld", "ko=0.06", "--report", "fit.html")
        page = (self.dir / "fit.html").read_text()
        drawn = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
        self.assertEqual(drawn, {"title": "out.gguf", "records": [out], "tunes": []})
        self.assertEqual(out["goal"], {"bytes": 60000, "max_kld": {"all": 0.05, "ko": 0.06}})
        self.assertEqual(out["texts"], [{"name": name, "calibration": 16, "selection": 2, "scoring": 2} for name in ("one", "ko")])
        files = [TINY / "model.safetensors", self.dir.parent / "one.txt", self.dir.parent / "two.txt"]
        self.assertEqual([i["sha256"] for i in out["inputs"]], [hashlib.sha256(f.read_bytes()).hexdigest() for f in files])
        self.assertIn(f"{out['narrow_matrices']} of {out['matrices']} matrices have rows", said)
        self.assertEqual([t["shape"] for t in out["tensors"] if t["name"] == "token_embd.weight"], [[272, 64]])
        # Everything in one type is what one gets by allowing no other.
        point = {p["type"]: p for p in out["types"]}["Q8_0"]
        _, only = self.fit("--size", "1MB", "--types", "Q8_0")
        self.assertEqual((point["bytes"], point["other"]), (only["bytes"], 0))
        self.assertEqual(sum(t["weights"] for t in out["tensors"]) * out["bits_per_weight"] / 8, sum(t["bytes"] for t in out["tensors"]))

    def f32(self):
        self.thimble("quantize", TINY, "-o", "f32.gguf", "--type", "F32")
        return self.dir / "f32.gguf"

    @harness.slow_in_an_emulator
    def test_the_cache_gives_the_same_file(self):
        said, first = self.fit("--size", "60kB", out="a.gguf")
        folder = re.search(r"kept in (.*)", said)[1]
        self.assertTrue(folder.startswith(str(self.cache)))
        folder = self.dir.parent / folder
        self.assertEqual(sorted(re.sub("-[0-9a-f]{8}", "", p.name) for p in folder.iterdir()),
                         ["calibration.gguf", "costs.json", "reference.tref", "rounded"])
        self.assertEqual(sorted(p.stem for p in (folder / "rounded").iterdir()), sorted({p["type"] for p in first["types"]}))
        stamps = {p: p.stat().st_mtime_ns for p in self.cache.rglob("*") if p.is_file()}
        _, second = self.fit("--size", "60kB", out="b.gguf")
        self.assertEqual({p: p.stat().st_mtime_ns for p in self.cache.rglob("*") if p.is_file()}, stamps)
        self.assertEqual((self.dir / "a.gguf").read_bytes(), (self.dir / "b.gguf").read_bytes())
        for key in first.keys() - {"seconds", "output", "command"}:
            self.assertEqual(first[key], second[key], key)
        # Whatever is damaged in it is made again.
        for path in [p for p in folder.rglob("*") if p.is_file()]:
            path.write_bytes(path.read_bytes()[:-100])
            self.fit("--size", "60kB", out="b.gguf")
            self.assertEqual((self.dir / "a.gguf").read_bytes(), (self.dir / "b.gguf").read_bytes(), path)

    @harness.slow_in_an_emulator
    def test_in_a_limited_time(self):
        said, out = self.fit("--size", "60kB", "--minutes", "0.01")
        self.assertLessEqual(self.size(), 60_000)
        self.assertFalse(list(self.cache.rglob("rounded")))
        self.assertGreater(out["scoring"][0]["kld_mean"], 0)

    @harness.slow_in_an_emulator
    def test_long_texts_are_scored_on_in_part(self):
        (self.dir.parent / "two.txt").write_text(documents(250, 3, "zyxwvutsrq"))  # 25 of them are to score on
        _, out = self.fit("--size", "60kB")
        rows = {row["text"]: row["tokens"] for row in out["scoring"]}
        self.assertEqual(rows["all"], 16 * 255)
        self.assertLess(rows["one"], rows["ko"])

    @harness.slow_in_an_emulator
    def test_more_bytes_are_better(self):
        klds = []
        for budget in ["55kB", "62kB", "80kB"]:
            klds.append(self.fit("--size", budget)[1]["scoring"][0]["kld_mean"])
        self.assertEqual(klds, sorted(klds, reverse=True))

    @harness.slow_in_an_emulator
    def test_bits_and_memory(self):
        _, out = self.fit("--bpw", "5.5")
        self.assertLessEqual(out["bits_per_weight"], 5.5)
        self.assertGreater(out["bits_per_weight"], 5)
        ram = out["expected_ram_bytes"] - 3000
        said, out = self.fit("--ram", ram, "-c", 64)
        self.assertLessEqual(out["expected_ram_bytes"], ram)
        self.assertIn("memory expected with 64 tokens of", said)
        # Heads of 16 columns are no whole blocks of Q8_0, so there is no other cache to choose.
        self.assertEqual(out["cache_type_k"], "F16")
        self.thimble_fails("fit", TINY, "-o", "x.gguf", *self.texts, "--ram", "1MB", says=["nothing fits", "the budget leaves 0"])

    @harness.slow_in_an_emulator
    def test_a_cache_type_of_ones_own(self):
        for k, v in ("f32", "f16"), ("f32", "f32"):
            _, out = self.fit("--size", "60kB", "--cache-type-k", k, "--cache-type-v", v)
            self.assertEqual((out["cache_type_k"], out["cache_type_v"]), (k.upper(), v.upper()))

    def test_native_types_only_where_asked_for(self):
        _, portable = self.fit("--size", "1MB")
        self.assertFalse([t for t in portable["types"] if t["type"].startswith("T")])
        smallest = portable["front"][0]["bytes"]
        said, native = self.fit("--size", smallest - 4000, "--native")
        self.assertLessEqual(self.size(), smallest - 4000)
        types = {t.type for t in read_gguf(self.dir / "out.gguf")[1]}
        self.assertTrue(types & {"T2", "T3", "T4"}, types)
        self.assertIn("T3", said)
        self.assertEqual(len(self.thimble_json("logits", "out.gguf", "--ids", "1,2", "--json")), 1)
        self.fit("--size", "1MB", "--native", "--types", "T3,Q8_0")
        self.thimble_fails("fit", TINY, "-o", "x.gguf", "--size", "1MB", "--types", "T3", says="give --native")

    def test_what_cannot_be_shows_the_front(self):
        _, out = self.fit("--size", "1MB")
        error = self.thimble_fails("fit", TINY, "-o", "x.gguf", *self.texts, "--size", "20kB",
                                   says=["nothing fits", "What this model can be"])
        self.assertGreaterEqual(len(re.findall(r"\d kB  KL \d\.\d{4}", error)), 3)
        error = self.thimble_fails("fit", TINY, "-o", "x.gguf", *self.texts, "--max-kld", "1e-9", says="nothing fits")
        self.thimble_fails("fit", TINY, "-o", "x.gguf", *self.texts, "--size", "45kB", "--max-kld", "1e-3",
                           says="nothing fits")
        self.assertFalse((self.dir / "x.gguf").exists())

    def test_types_that_fit_nothing_leave_all_as_it_is(self):
        self.thimble_fails("fit", TINY, "-o", "x.gguf", *self.texts, "--size", "60kB", "--types", "Q4_K",
                           says="nothing fits")

    @harness.slow_in_an_emulator
    def test_an_output_of_its_own(self):
        _, out = self.fit("--size", "150kB", model=UNTIED)
        types = {t["name"]: t["type"] for t in out["tensors"]}
        self.assertNotEqual(types["output.weight"], "F32")


@harness.slow_in_an_emulator
class Qualities(FitCase):
    def test_max_kld_is_met_with_few_bytes(self):
        for goal in [["--max-kld", "0.002"], ["--max-kld", "ko=0.002"], ["--max-kld", "0.004", "--max-kld", "ko=0.003"]]:
            _, out = self.fit(*goal)
            measured = {row["text"]: row["kld_mean"] for row in out["selection"]}
            for limit in goal[1::2]:
                part, _, most = limit.rpartition("=")
                self.assertLessEqual(measured[part or "all"], float(most), goal)
            self.assertEqual(out["bytes"], self.size())
        loose, tight = self.fit("--max-kld", "0.01")[1], self.fit("--max-kld", "0.003")[1]
        self.assertLess(loose["bytes"], tight["bytes"])

    def test_min_top1_is_met(self):
        _, out = self.fit("--min-top1", "0.9")
        self.assertGreaterEqual(out["selection"][0]["top1_agreement"], 0.9)
        self.assertEqual(out["bytes"], self.size())

    def test_a_size_and_a_quality(self):
        _, out = self.fit("--max-kld", "0.01", "--size", "90kB")
        self.assertLessEqual(out["selection"][0]["kld_mean"], 0.01)
        self.assertLessEqual(self.size(), 90_000)


@harness.slow_in_an_emulator
class Choices(FitCase):
    """A trained model of one layer, in every combination of two types."""
    TRAINED = harness.ROOT / "tests/golden/trained"  # tools/make_trained_golden.py

    def test_are_near_the_best_there_is(self):
        text = (harness.ROOT / "quant/calibration_text/english.txt").read_text().split("\n---\n")
        calibration, score = self.dir / "calibration.txt", self.dir / "score.txt"
        calibration.write_text("\n---\n".join(text[:60]))
        score.write_text("\n\n".join(text[60:64]))
        fit = lambda size, types="Q4_0,Q8_0": self.fit(
            "--calibration", calibration, "--calibration-tokens", 65536, "--cache", self.cache, "-t", 1,
            "--size", size, "--types", types, model=self.TRAINED, out=f"{size}-{types}.gguf", texts=False)
        fit("1MB", "Q4_0")
        fit("1MB", "Q8_0")
        coarse, fine = self.dir / "1MB-Q4_0.gguf", self.dir / "1MB-Q8_0.gguf"
        names = [a.name for a, b in zip(read_gguf(coarse)[1], read_gguf(fine)[1]) if a.type != b.type]
        self.assertEqual(len(names), 8)
        files = []
        for n in range(len(names) + 1):
            for chosen in itertools.combinations(names, n):
                files.append(self.dir / f"mix{len(files)}.gguf")
                mix_gguf(files[-1], coarse, fine, chosen)
        every = list(zip((f.stat().st_size for f in files), self.klds(files, score)))
        low, high = coarse.stat().st_size, fine.stat().st_size
        budgets = [low + (high - low) * i // 12 for i in range(1, 12)]
        for budget in budgets:
            fit(budget)
        chosen = self.klds([self.dir / f"{b}-Q4_0,Q8_0.gguf" for b in budgets], score)
        excess = [kld / min(k for size, k in every if size <= budget) - 1 for budget, kld in zip(budgets, chosen)]
        self.assertLess(max(excess), 0.05, excess)

    def klds(self, files, text):
        self.thimble("compare", *files, "--reference", self.TRAINED, "--text", text, "-t", 1, "--json", "compare.json")
        return [row["kld_mean"] for row in json.loads((self.dir / "compare.json").read_text())["rows"]]


class Refusals(FitCase):
    def test_flags_before_the_work(self):
        for args, says in [
                ([], "give a budget"), (["--size", "80 apples"], "80 apples"), (["--size", "-1"], "-1"),
                (["--size", "inf"], "inf"), (["--size", "1e30GB"], "1e30GB"), (["--ram", "x"], "--ram"),
                (["--max-kld", "x"], "--max-kld"), (["--max-kld", "ko=0"], "ko=0"), (["--max-kld", "inf"], "inf"),
                (["--max-kld", "en=0.1"], ["--max-kld", "'en'"]), (["--bpw", "0"], "--bpw"),
                (["--min-top1", "2"], "--min-top1"), (["--size", "60kB", "--types", "F16"], "F16"),
                (["--size", "60kB", "--types", "Q4_0,IQ1_S"], "IQ1_S"),
                (["--size", "60kB", "--json", "no/such.json"], "no/such.json")]:
            self.thimble_fails("fit", TINY, "-o", "x.gguf", *self.texts, *args, says=says)
        for model, out, says in [("absent", "x.gguf", "absent"), (TINY, ".", "folder"), (TINY, "no/such.gguf", "no/such.gguf")]:
            self.thimble_fails("fit", model, "-o", out, *self.texts, "--size", "60kB", says=says)
        self.assertFalse(self.cache.exists())
        self.assertEqual([p.name for p in self.dir.iterdir()], [])

    def test_texts(self):
        short = self.write("short.txt", "too short")
        self.thimble_fails("fit", TINY, "-o", "x.gguf", "--calibration", short, "--cache", self.cache, "--size", "60kB",
                           says=["too short", "512 tokens"])
        self.thimble_fails("fit", TINY, "-o", "x.gguf", "--calibration", "absent.txt", "--size", "60kB", says="absent.txt")

    def test_over_the_input(self):
        self.thimble("convert", TINY, "-o", "a.gguf")
        before = (self.dir / "a.gguf").read_bytes()
        self.thimble_fails("fit", "a.gguf", "-o", "./a.gguf", *self.texts, "--size", "60kB", says="replace the input")
        self.assertEqual((self.dir / "a.gguf").read_bytes(), before)


class Interruptions(FitCase):
    """Whatever stops it, there is no output and nothing temporary."""

    def stop(self, when, stop_by, code, *args):
        process = subprocess.Popen([harness.PROGRAM, *map(str, ["fit", TINY, "-o", "out.gguf", *self.texts, *args])],
                                   cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.time() + 60 * harness.PATIENCE
        while not when() and process.poll() is None and time.time() < deadline:
            time.sleep(0.0005)
        process.send_signal(stop_by)
        _, errors = process.communicate(timeout=60 * harness.PATIENCE)
        if process.returncode == 0:
            self.skipTest("it was faster than the signal")
        self.assertEqual(process.returncode, code, errors)
        self.nothing_is_left()

    def test_while_calibrating(self):
        self.stop(lambda: self.cache.exists(), signal.SIGINT, 130, "--size", "60kB")

    def test_while_measuring(self):
        for stop_by, code in (signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM):
            self.stop(lambda: any(self.cache.rglob("measured*")), stop_by, code, "--size", "60kB")

    def test_while_choosing_by_what_was_measured(self):
        self.fit("--size", "60kB")  # so that only the rounds are left
        for path in self.dir.iterdir():
            path.unlink()
        for stop_by, code in (signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM):
            self.stop(lambda: any(self.dir.iterdir()), stop_by, code, "--max-kld", "0.002")


class Imatrix(FitCase):
    def test_of_every_matrix(self):
        out = self.thimble("imatrix", TINY, "-o", "i.gguf", *self.texts)
        self.assertIn("i.gguf: 16 matrices, 4096 tokens", out)
        metadata, tensors = read_gguf(self.dir / "i.gguf")
        self.assertEqual(metadata["general.type"], ("STRING", "imatrix"))
        self.assertEqual(metadata["imatrix.chunk_size"], ("UINT32", 512))
        self.assertEqual(metadata["imatrix.chunk_count"], ("UINT32", 8))
        self.assertEqual(metadata["imatrix.datasets"][1], ["one", "ko"])
        self.assertEqual(len(tensors), 32)
        again = self.thimble("imatrix", TINY, "-o", "j.gguf", *self.texts)
        self.assertEqual((self.dir / "i.gguf").read_bytes(), (self.dir / "j.gguf").read_bytes())


if __name__ == "__main__":
    harness.main()
