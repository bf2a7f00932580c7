#!/usr/bin/env python3
"""thimble tune on a tiny model: it learns, resumes, is interrupted, and refuses what it can't do."""
import json
import os
import re
import signal
import subprocess
import time

import harness

MODELS = harness.ROOT / "tests/golden/models"
MODEL = MODELS / "llama"
TEXT = [dict(messages=[dict(role="user", content=f"torch {word}"), dict(role="assistant", content=f"the torch is {word}")])
        for word in ["on", "off", "red", "dim"] for _ in range(6)]
FLAGS = ["--batch-size", 4]


class Tune(harness.ThimbleCase):
    def setUp(self):
        super().setUp()
        self.data = self.write_lines("data.jsonl", TEXT)
        self.rank = ["--rank", 4]

    def write_lines(self, name, entries):
        return self.write(name, "".join(e if isinstance(e, str) else json.dumps(e) + "\n" for e in entries))

    def tune(self, *args, model=MODEL, out="out", threads=1):
        return self.thimble("tune", model, "--data", self.data, "-o", out, "--lr", "1e-2", "--threads", threads, *FLAGS, *self.rank, *args)

    def tune_fails(self, *args, model=MODEL, lr="1e-2", says=(), **options):
        return self.thimble_fails("tune", model, "--data", self.data, "-o", "out", "--lr", lr, *FLAGS, *self.rank, *args,
                                  says=says, **options)

    def log(self, out="out", key="loss"):
        return [e[key] for e in map(json.loads, (self.dir / out / "log.jsonl").read_text().splitlines()) if key in e]

    def logits(self, *args, model=MODEL):
        return self.thimble_json("logits", model, "--ids", "5,6,7,8,9", "--compute", "f32", "--json", *args)

    def test_it_learns_and_the_adapter_is_used(self):
        text = self.tune("--epochs", 5, "--eval-data", self.data, "--eval-steps", 10, "--gguf")
        self.assertIn("24 examples", text)
        self.assertIn("7424 of 96576 parameters trained", text)
        self.assertIn("steps: 30 (6 per epoch)", text)
        self.assertEqual(len(self.log()), 30)
        self.assertLess(self.log()[-1], 0.2 * self.log()[0])
        self.assertRegex(text, "\nloss: [▁-█]{30}\n")
        self.assertRegex(text, "\nevaluation loss: █[▁-█]{2}▁\n")
        evaluations = self.log(key="eval_loss")
        self.assertEqual(len(evaluations), 4)  # before, twice on the way, at the end
        self.assertLess(evaluations[-1], 0.2 * evaluations[0])

        base = self.logits()
        peft, gguf = self.logits("--adapter", "out"), self.logits("--adapter", "out/adapter.gguf")
        self.assertNotEqual(base, peft)
        self.assertEqual(peft[0]["ids"], gguf[0]["ids"])
        for a, b in zip(peft[0]["logits"], gguf[0]["logits"]):
            self.assertAlmostEqual(a, b, delta=1e-4)
        self.thimble_fails("logits", MODELS / "gemma3_text", "--ids", "5", "--adapter", "out", says="lora_")
        self.thimble_fails("logits", MODELS / "qwen2", "--ids", "5", "--adapter", "out/adapter.gguf",
                           says=["'llama'", "'qwen2'"])

    @harness.needs_smollm2
    @harness.slow_in_an_emulator
    @harness.not_sanitized
    def test_memory_is_foretold_and_kept(self):
        """A step on 512 tokens of SmolLM2 in 400 MB; what is said before the first step is what is used."""
        data = self.write("long.jsonl", json.dumps(dict(text="the thimble needle thread holds and " * 120)) + "\n")

        def tune(*args):
            command = [harness.PROGRAM, "tune", str(harness.SMOLLM2), "--data", str(data), "-o", str(self.dir / "out"), "--max-steps",
                       "1", *args]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                said = process.stdout.read()
                _, status, usage = os.wait4(process.pid, 0)
            self.assertEqual(status, 0, said)
            foretold, unit = re.search(r"memory: about ([\d.]+) (MB|GB)", said).groups()
            return said, float(foretold) * (1 if unit == "MB" else 1000), usage.ru_maxrss * 1024 / 1e6

        for args, checkpoints in ([], False), (["--max-ram", "800MB"], False), (["--max-ram", "400MB"], True):
            said, foretold, used = tune(*args)
            self.assertAlmostEqual(foretold, used, delta=0.1 * used)
            self.assertEqual(", with gradient checkpointing" in said, checkpoints)
            self.assertEqual("no integer gradients" in said, bool(args))
        self.assertLess(used, 400)
        said = self.thimble_fails("tune", harness.SMOLLM2, "--data", data, "-o", "no", "--max-ram", "200MB",
                                  says="MB more than --max-ram")
        self.assertFalse((self.dir / "no").exists())

    def test_the_saved_config_is_peft_s(self):
        self.tune("--max-steps", 1, "--lora-alpha", 32, "--lora-dropout", 0.1, "--use-rslora", "--target-modules",
                  "q_proj,v_proj")
        config = json.loads((self.dir / "out/adapter_config.json").read_text())
        for key, value in dict(peft_type="LORA", r=4, lora_alpha=32, lora_dropout=0.1, use_rslora=True,
                               target_modules=["q_proj", "v_proj"], bias="none").items():
            self.assertEqual(config[key], value, key)

    def test_every_method_runs_on_the_folder_and_on_the_file(self):
        """GGUF has the rows of queries and keys in another order; what is saved fits both."""
        self.thimble("convert", MODEL, "-o", "model.gguf", "--outtype", "f32")
        base = self.logits()
        for method, flags in [("lora", ["--rank", 4]), ("dora", ["--rank", 4]), ("vera", ["--rank", 8]), ("ia3", []), ("bitfit", []), ("norm-tuning", []), ("bottleneck", ["--bottleneck-size", 4]),
                              ("prompt-tuning", ["--num-virtual-tokens", 3]), ("prefix-tuning", ["--num-virtual-tokens", 3])]:
            with self.subTest(method):
                self.rank = ["--method", method, *flags]
                text = self.tune("--epochs", 2, "--save-steps", 5, model="model.gguf", out=method)
                self.assertRegex(text, rf"parameters trained \([\d.]+ %\), {method}")
                self.assertLess(self.log(method)[-1], self.log(method)[0])
                whole = self.log(method)
                self.tune("--epochs", 2, "--resume", f"{method}/checkpoint-5", model="model.gguf", out=method)
                self.assertEqual(self.log(method), whole)
                folder, file = (self.logits("--adapter", method, model=m)[0]["logits"] for m in (MODEL, "model.gguf"))
                self.assertNotEqual(folder, base[0]["logits"])
                for a, b in zip(folder, file):
                    self.assertAlmostEqual(a, b, delta=1e-4)

    def test_full_fine_tuning_makes_a_model(self):
        self.thimble("convert", MODEL, "-o", "model.gguf", "--outtype", "f32")
        self.thimble("quantize", "model.gguf", "-o", "q8.gguf", "--type", "Q8_0")
        self.rank = ["--method", "full"]
        logits = {}
        for model, saved in ("model.gguf", "file/model.gguf"), (MODEL, "folder"), ("q8.gguf", "q8/model.gguf"):
            out = saved.partition("/")[0]
            text = self.tune("--epochs", 2, "--save-steps", 5, model=model, out=out)
            self.assertIn("96576 of 96576 parameters trained (100.00 %), full", text)
            self.assertIn(f"saved: {saved}", text)
            whole = self.log(out)
            self.assertLess(whole[-1], 0.5 * whole[0])
            self.tune("--epochs", 2, "--resume", f"{out}/checkpoint-5", model=model, out=out)
            self.assertEqual(self.log(out), whole)
            logits[out] = self.logits(model=saved)[0]["logits"]
        for a, b in zip(logits["file"], logits["folder"]):
            self.assertAlmostEqual(a, b, delta=1e-3)
        self.assertNotEqual(logits["file"], logits["q8"])

    def test_flags_of_another_method(self):
        self.rank = []
        self.tune_fails("--method", "ia3", "--rank", 4, says="ia3 has no --lora-r")
        self.tune_fails("--num-virtual-tokens", 4, says="lora has no --num-virtual-tokens")
        self.tune_fails("--method", "dora", "--gguf", says=["--gguf", "dora"])
        self.tune_fails("--method", "prompt-tuning", "--target-modules", "q_proj", says="prompt-tuning has no target modules")
        self.tune_fails("--method", "bottleneck", "--target-modules", "q_proj", says="after o_proj and down_proj only")
        self.tune_fails("--bottleneck-size", 4, says="lora has no --bottleneck-size")
        self.tune_fails("--method", "magic", says=["--method", "lora"])
        self.assertFalse((self.dir / "out").exists())

    def test_options_that_must_not_change_the_losses(self):
        self.tune("--max-steps", 4, "--lora-dropout", 0.1)
        self.tune("--max-steps", 4, "--lora-dropout", 0.1, "--gradient-checkpointing", out="again", threads=2)
        self.assertEqual(self.log(), self.log("again"))
        self.tune("--max-steps", 4, "--lora-dropout", 0.1, "--seed", 1, out="other")
        self.assertNotEqual(self.log(), self.log("other"))

    def test_packing_and_accumulation(self):
        text = self.tune("--pack", "--max-seq-length", 64, "--gradient-accumulation-steps", 2, "--warmup-ratio", 0.5,
                         "--lr-scheduler", "linear")
        self.assertRegex(text, r"steps: 2 \(2 per epoch\), warm-up 1")
        self.assertEqual(self.log(key="learning_rate"), [0, 0.01])

    def test_resuming_goes_on_to_the_same_losses(self):
        self.tune("--epochs", 2, "--save-steps", 5)
        whole = self.log()
        self.tune("--epochs", 2, "--resume", "out/checkpoint-5")
        self.assertEqual(self.log(), whole)  # the log keeps what was before, and repeats the rest
        self.tune_fails("--epochs", 2, "--lora-alpha", 3, "--resume", "out/checkpoint-5", says=["checkpoint-5", "other data or options"])
        self.tune_fails("--resume", "nowhere", says="nowhere")
        self.tune_fails("--epochs", 2, "--resume", "out/checkpoint-5", model=MODELS / "qwen3", says="checkpoint-5")

    def test_a_resumed_run_keeps_the_gradients_it_had(self):
        self.thimble("quantize", MODEL, "-o", "small.gguf", "--type", "Q4_0", "--pure")
        tune = lambda *args: self.tune("--epochs", 2, *args, model="small.gguf")
        tune("--save-steps", 5)
        whole = self.log()
        path = self.dir / "out/checkpoint-5/trainer_state.json"
        state = json.loads(path.read_text())
        self.assertIs(state["options"]["integer_gradients"], True)
        tune("--resume", "out/checkpoint-5")
        self.assertEqual(self.log(), whole)
        del state["options"]["integer_gradients"]  # as before there were any
        path.write_text(json.dumps(state))
        tune("--resume", "out/checkpoint-5")
        self.assertEqual(self.log()[:6], whole[:6])
        self.assertNotEqual(self.log()[6:], whole[6:])
        state["options"]["integer_gradients"] = True
        path.write_text(json.dumps(state))
        self.tune_fails("--epochs", 2, "--resume", "out/checkpoint-5", "--max-ram", "1GB", "--compute", "f32", model="small.gguf",
                        says="other data or options")
        self.tune("--save-steps", 5, out="plain")  # of an F32 model
        path = self.dir / "plain/checkpoint-5/trainer_state.json"
        state = json.loads(path.read_text())
        state["options"]["integer_gradients"] = True
        path.write_text(json.dumps(state))
        self.tune_fails("--resume", "plain/checkpoint-5", says="gradients by integer products, which")

    def test_ctrl_c_saves_a_checkpoint(self):
        with subprocess.Popen([harness.PROGRAM, "tune", MODEL, "--data", self.data, "-o", "out", *map(str, FLAGS), "--rank", "4", "--lr", "1e-2",
                               "--threads", "1", "--epochs", "100000"], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            log = self.dir / "out/log.jsonl"
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 3):
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            _, error = run.communicate(timeout=60 * harness.PATIENCE)
        self.assertEqual(run.returncode, 130)
        self.assertRegex(error, r"interrupted after step \d+; go on with --resume out/checkpoint-\d+")
        checkpoint = error[error.index("--resume ") + len("--resume "):].split()[0]
        before = len(self.log())
        self.assertEqual(checkpoint, f"out/checkpoint-{before}")
        self.assertFalse((self.dir / "out/adapter_config.json").exists())
        self.tune("--max-steps", before + 2, "--resume", checkpoint)
        self.assertEqual(len(self.log()), before + 2)

    def test_bad_data_names_the_line(self):
        self.data = self.write_lines("bad.jsonl", [*TEXT[:2], '{"text": 3}\n'])
        self.tune_fails(says='bad.jsonl:3: "text"')
        self.data = self.write_lines("broken.jsonl", [*TEXT[:2], '{"text": \n'])
        self.tune_fails(says="broken.jsonl:3")
        self.data = self.write("empty.jsonl", "")
        self.tune_fails(says="empty.jsonl: no example")
        self.data = self.dir / "absent.jsonl"
        self.tune_fails(says="absent.jsonl")
        self.assertFalse((self.dir / "out").exists())

    def test_bad_options(self):
        self.tune_fails("--target-modules", "q_proj,c_attn", says=["c_attn", "q_proj, k_proj"])
        self.tune_fails("--lr-scheduler", "polynomial", says="--lr-scheduler")
        self.tune_fails("--lora-dropout", "1.5", says="--lora-dropout")
        self.tune_fails("--compute", "bf16", env={"THIMBLE_ISA": "ref"}, says="(ref) multiply no BF16")
        self.tune_fails(lr="1e30", says="smaller learning rate")
        self.write("file", "")
        self.thimble_fails("tune", MODEL, "--data", self.data, "-o", "file/out", says="file/out")

    def test_truncation_is_told(self):
        text = self.tune("--max-steps", 1, "--max-seq-length", 28)
        self.assertIn("24 examples lost their end", text)


if __name__ == "__main__":
    harness.main()
