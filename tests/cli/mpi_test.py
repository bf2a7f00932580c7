#!/usr/bin/env python3
"""Several processes under mpirun: the same losses, scores and statistics as one; what happens when one of them dies."""
import array
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

import harness
from gguf_reader import read_gguf

MODELS = harness.ROOT / "tests/golden/models"
MODEL = MODELS / "llama"
MPIRUN = shutil.which("mpirun")
MODULE = pathlib.Path(harness.PROGRAM).parent / "thimble_mpi.so"
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}  # Open MPI has some
WORDS = "the thimble needle thread holds and torch lamp on off please river stone".split()
TEXT = [dict(text=" ".join(WORDS[(i * j) % len(WORDS)] for j in range(4 + i % 7))) for i in range(1, 26)]


@unittest.skipUnless(MPIRUN and MODULE.exists(), "needs mpirun, and a build with MPI")
class Mpi(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.data = self.write("data.jsonl", "".join(json.dumps(e) + "\n" for e in TEXT))

    def command(self, n, *args):
        return [MPIRUN, "--allow-run-as-root", "--oversubscribe", "-np", str(n), harness.PROGRAM, *map(str, args)]

    def mpi(self, n, *args, succeeds=True):
        done = subprocess.run(self.command(n, *args), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=self.dir,
                              env=ENVIRONMENT, timeout=300 * harness.PATIENCE)
        self.assertEqual(done.returncode == 0, succeeds, done.stderr[-3000:])
        return done.stdout if succeeds else done.stderr

    def tune_flags(self, out, *args):
        return ["tune", MODEL, "--data", self.data, "-o", out, "--lr", "1e-2", "--threads", 1, *args]

    def log(self, out, key="loss"):
        return [e[key] for e in map(json.loads, (self.dir / out / "log.jsonl").read_text().splitlines()) if key in e]

    def assert_close(self, a, b, delta):
        self.assertEqual(len(a), len(b))
        for x, y in zip(a, b):
            self.assertAlmostEqual(x, y, delta=delta)

    def test_tune_has_the_losses_of_one_process(self):
        flags = ["--batch-size", 5, "--rank", 4, "--epochs", 3, "--eval-data", self.data, "--eval-steps", 5]
        text = self.thimble(*self.tune_flags("one", *flags))
        for n in (2, 3):  # of 5 examples a batch: parts of different sizes
            said = self.mpi(n, *self.tune_flags(f"of{n}", *flags))
            self.assertEqual(said.count("parameters trained"), 1)
            self.assertEqual([line for line in said.splitlines() if line.startswith("steps:")],
                             [line for line in text.splitlines() if line.startswith("steps:")])
            for key in "loss", "eval_loss", "tokens":
                self.assert_close(self.log("one", key), self.log(f"of{n}", key), 1e-5)
            self.assert_close(self.log("one", "grad_norm"), self.log(f"of{n}", "grad_norm"), 4e-5)  # norms are 4 to 9
        one, two = (json.loads(self.thimble("logits", MODEL, "--ids", "5,6,7", "--compute", "f32", "--json", "--adapter", a))
                    for a in ("one", "of2"))
        self.assert_close(one[0]["logits"], two[0]["logits"], 1e-4)

    def test_methods_and_options(self):
        for name, flags in dict(dora=["--method", "dora"], full=["--method", "full"], bitfit=["--method", "bitfit"],
                                packed=["--rank", 4, "--pack", "--gradient-accumulation-steps", 2, "--gradient-checkpointing"]).items():
            with self.subTest(name):
                args = self.tune_flags(name, "--batch-size", 5, "--epochs", 2, *flags)
                self.thimble(*args)
                alone = self.log(name)
                self.mpi(2, *args)
                self.assert_close(alone, self.log(name), 1e-5)

    def test_more_ranks_than_examples_in_a_batch(self):
        self.thimble(*self.tune_flags("one", "--batch-size", 2, "--max-steps", 4))
        self.mpi(4, *self.tune_flags("four", "--batch-size", 2, "--max-steps", 4))
        self.assert_close(self.log("one"), self.log("four"), 1e-5)

    def test_resuming_with_another_number_of_processes(self):
        self.mpi(2, *self.tune_flags("out", "--epochs", 2, "--save-steps", 5))
        whole = self.log("out")
        self.thimble(*self.tune_flags("out", "--epochs", 2, "--resume", "out/checkpoint-5"))
        self.assert_close(self.log("out"), whole, 1e-5)

    def start(self, n):
        """A tune that would take for ever, once its first checkpoint is whole; and the processes of its ranks."""
        flags = self.tune_flags("out", "--max-steps", 10000000, "--save-steps", 20)
        return self.start_until(lambda: (self.dir / "out/checkpoint-40").exists(), n, *flags)

    def start_until(self, has_begun, n, *args):
        run = subprocess.Popen(self.command(n, *args), cwd=self.dir, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120 * harness.PATIENCE
        while time.monotonic() < deadline and not has_begun():
            time.sleep(0.05)
        children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        ranks = {}
        for child in map(int, children):
            environment = pathlib.Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            ranks[next(int(e.split(b"=")[1]) for e in environment if e.startswith(b"OMPI_COMM_WORLD_RANK="))] = child
        return run, ranks

    def checkpoints(self):
        return sorted((self.dir / "out").glob("checkpoint-*[0-9]"), key=lambda p: int(p.name.split("-")[1]))

    def test_a_killed_rank(self):
        for victim in (1, 0):
            with self.subTest(rank=victim):
                shutil.rmtree(self.dir / "out", ignore_errors=True)
                run, ranks = self.start(2)
                os.kill(ranks[victim], signal.SIGKILL)
                _, error = run.communicate(timeout=60 * harness.PATIENCE)
                self.assertNotEqual(run.returncode, 0)
                self.assertRegex(error, rf"rank {victim} .*(\n.*)?signal 9")  # mpirun's words
                last = self.checkpoints()[-1]
                self.assertIn(f"thimble: rank {1 - victim}: ended from outside; go on with --resume out/checkpoint-", error)
                said = error.split("--resume ")[-1].split()[0]
                self.assertIn(said, [f"out/{c.name}" for c in self.checkpoints()[-2:]])
                step = int(last.name.split("-")[1])
                self.mpi(2, *self.tune_flags("out", "--max-steps", step + 2, "--resume", f"out/{last.name}"))
                self.assertEqual(len(self.log("out")), step + 2)

    def test_an_interrupted_rank_stops_all(self):
        run, ranks = self.start(2)
        os.kill(ranks[1], signal.SIGINT)
        _, error = run.communicate(timeout=60 * harness.PATIENCE)
        self.assertNotEqual(run.returncode, 0)
        self.assertEqual(error.count("interrupted after step"), 1, error)
        self.assertIn(error.split("--resume ")[1].split()[0], [f"out/{self.checkpoints()[-1].name}"])
        self.assertNotIn("ended from outside", error)  # mpirun's SIGTERM may find a rank that is exiting

    def test_an_interrupted_rank_of_eval_ends_all(self):
        """Also where the other one has done its share and waits."""
        text = self.write("text.txt", " ".join(WORDS[i * i % len(WORDS)] for i in range(1000000)))
        begun = time.monotonic() + 3
        run, ranks = self.start_until(lambda: time.monotonic() > begun, 2, "eval", MODEL, "--text", text, "-c", 64, "--threads", 1,
                                      "--json", "out.json")
        os.kill(ranks[1], signal.SIGINT)
        _, error = run.communicate(timeout=60 * harness.PATIENCE)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("thimble: rank 1: interrupted", error)
        self.assertFalse((self.dir / "out.json").exists())

    def test_a_launcher_of_another_mpi(self):
        says = "of another MPI than this build's"
        self.thimble_fails(*self.tune_flags("out"), env=dict(PMI_SIZE="2"), says=says)

    def test_ranks_that_do_not_fit_together(self):
        other = self.write("other.jsonl", json.dumps(TEXT[0]) + "\n")
        one, two = (self.tune_flags("out") for _ in range(2))
        two[two.index("--data") + 1] = other
        done = subprocess.run([*self.command(1, *one), ":", *self.command(1, *two)[3:]], cwd=self.dir, env=ENVIRONMENT, capture_output=True,
                              text=True, timeout=120 * harness.PATIENCE)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("rank 1 has other data or options", done.stderr)
        self.assertFalse((self.dir / "out").exists())
        self.assertIn("this command runs as one", self.mpi(2, "logits", MODEL, "--ids", "5", succeeds=False))
        # Whichever rank finds it first ends the others, which may have said nothing yet.
        self.assertRegex(self.mpi(2, *self.tune_flags("out", "--target-modules", "c_attn"), succeeds=False), "rank [01]: target module 'c_attn'")

    def test_eval_has_the_scores_of_one_process(self):
        self.thimble("convert", MODEL, "-o", "model.gguf", "--outtype", "f32")
        self.thimble("quantize", "model.gguf", "-o", "q4.gguf", "--type", "Q4_0")
        text = self.write("text.txt", " ".join(WORDS[i * i % len(WORDS)] for i in range(400)))
        task = self.write("task.jsonl", "".join(json.dumps(dict(query=f"the {w}", choices=WORDS[:4], gold=i % 4)) + "\n"
                                                for i, w in enumerate(WORDS[:7])))
        answers = self.write("answers.jsonl", "".join(json.dumps(dict(prompt=f"the {w}", completion=w)) + "\n" for w in WORDS[:5]))
        flags = ["eval", "q4.gguf", "--reference", "model.gguf", "--text", text, "--task", task, "--data", answers, "-n", 4,
                 "-c", 64, "--threads", 1]
        self.thimble(*flags, "--json", "one.json")
        said = self.mpi(3, *flags, "--json", "three.json")
        self.assertEqual(said.count("perplexity"), 1)
        one, three = (json.loads((self.dir / f).read_text()) for f in ("one.json", "three.json"))
        varying = {"seconds", "tokens_per_second", "peak_rss_bytes", "command", "date", "time"}

        def fixed(value):
            if isinstance(value, dict):
                return {k: fixed(v) for k, v in value.items() if k not in varying}
            return [fixed(v) for v in value] if isinstance(value, list) else value
        self.assertEqual(fixed(one), fixed(three))
        self.assertGreater(len(one["worst"]), 5)

    def test_calibration_has_the_statistics_of_one_process(self):
        text = self.write("text.txt", " ".join(WORDS[i * i % len(WORDS)] for i in range(3000)))
        for name, run in dict(one=self.thimble, three=lambda *args: self.mpi(3, *args)).items():
            run("imatrix", MODEL, "-o", f"{name}.gguf", "--calibration", text, "--cache", f"cache-{name}", "--threads", 1)
        for pattern in "{}.gguf", "cache-{}/calibration/*/calibration.gguf":
            one, three = (next(self.dir.glob(pattern.format(name))) for name in ("one", "three"))
            for a, b in zip(read_gguf(one)[1], read_gguf(three)[1], strict=True):
                self.assertEqual((a.name, a.type, a.shape), (b.name, "F32", b.shape))
                x, y = (array.array("f", t.data) for t in (a, b))
                self.assert_close(x, y, 1e-4 * max(map(abs, x)))


if __name__ == "__main__":
    harness.main()
