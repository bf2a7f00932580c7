#!/usr/bin/env python3
"""thimble run: one prompt, one answer."""
import harness

LLAMA = harness.ROOT / "tests/golden/models/llama"


class Run(harness.ThimbleCase):
    def answer(self, *args, **options):
        return self.thimble("run", LLAMA, "-t", 1, "--compute", "f32", *args, **options)

    def test_the_seed_decides(self):
        sample = ["-p", "Once upon a time", "-n", 20, "--ignore-eos", "-q"]
        self.assertEqual(self.answer(*sample, "--seed", 1), self.answer(*sample, "--seed", 1))
        self.assertNotEqual(self.answer(*sample, "--seed", 1), self.answer(*sample, "--seed", 2))

    def test_the_template_changes_the_prompt(self):
        greedy = ["-p", "Hello", "-n", 20, "--temp", 0, "--ignore-eos", "-q"]
        chat = self.answer(*greedy)
        self.assertNotEqual(chat, self.answer(*greedy, "--raw"))
        self.assertNotEqual(chat, self.answer(*greedy, "--system", "Be brief."))

    def test_stop_string_is_not_shown(self):
        greedy = ["-p", "Hello", "-n", 30, "--temp", 0, "--ignore-eos", "-q"]
        whole = self.answer(*greedy)[:-1]
        stop = whole[10:12]
        self.assertEqual(self.answer(*greedy, "--stop", stop), whole[:whole.index(stop)] + "\n")

    def test_a_full_context_is_said(self):
        done = self.run_thimble("run", LLAMA, "-p", "Hi", "-c", 48, "--ignore-eos", "--raw")
        self.assertEqual(done.returncode, 0)
        self.assertIn("context full", done.stderr)
        self.thimble_fails("run", LLAMA, "-p", "x" * 100, "-c", 48, "--raw",
                           says=["100 tokens", "context holds 48", "--ctx-size"])

    def test_the_prompt_comes_from_a_file_or_a_pipe(self):
        greedy = ["-n", 20, "--temp", 0, "--ignore-eos", "-q"]
        direct = self.answer("-p", "Grüße 👋", *greedy)
        self.assertEqual(self.answer("-f", self.write("prompt.txt", "Grüße 👋"), *greedy), direct)
        self.assertEqual(self.answer("-f", "-", *greedy, stdin="Grüße 👋"), direct)

    def test_guessing_ahead_does_not_change_the_answer(self):
        for temperature in 0, 1.5:
            sample = ["-p", "to be or not to be or not", "-n", 100, "--raw", "--temp", temperature, "--seed", 4, "--ignore-eos"]
            plain = self.answer(*sample, "-q")
            for draft in ["--spec-type", "ngram-simple"], ["-md", LLAMA], ["-md", LLAMA, "--draft-max", 15, "--draft-min", 2]:
                done = self.run_thimble("run", LLAMA, "-t", 1, "--compute", "f32", *sample, *draft)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stdout, plain)
                if "-md" in draft:
                    self.assertIn("guessed", done.stderr)
            self.assertIn("(100 %)", done.stderr)  # the model as its own draft

    def test_the_caches_types(self):
        greedy = ["-p", "Hello", "-n", 20, "--temp", 0, "--ignore-eos", "-q"]
        exact = self.answer(*greedy, "-ctk", "f32", "-ctv", "f32")
        self.assertEqual(self.answer(*greedy, "--cache-type-k", "f32", "--cache-type-v", "f16"), exact)
        qwen = ["run", harness.ROOT / "tests/golden/models/qwen3", "-t", 1, *greedy]
        self.assertNotEqual(self.thimble(*qwen, "-ctk", "q4_0", "-ctv", "q4_0"), self.thimble(*qwen))
        self.thimble_fails("run", LLAMA, *greedy, "-ctk", "q8_0", says=["heads of 16", "Q8_0", "F16"])
        self.thimble_fails("run", LLAMA, *greedy, "-ctv", "q4_k", says=["--cache-type-v", "q4_0"])

    def test_bad_flags_say_what_to_do(self):
        self.thimble_fails("run", LLAMA, says="--prompt")
        self.thimble_fails("run", LLAMA, "-p", "x", "--adapter", "absent", says="absent")
        self.thimble_fails("run", LLAMA, "-p", "x", "--adapter", "a=b", says="not a number")
        self.thimble_fails("run", LLAMA, "-p", "x", "--top-p", 2, says="--top-p")
        self.thimble_fails("run", LLAMA, "-p", "x", "-md", "absent", says="absent")
        self.thimble_fails("run", LLAMA, "-p", "x", "-md", LLAMA, "--spec-type", "ngram-simple", says="--spec-type")
        self.thimble_fails("run", LLAMA, "-p", "x", "--spec-type", "ngram-simple", "--draft-max", 16, says="--draft-max")
        self.thimble_fails("run", LLAMA, "-p", "x", env={"THIMBLE_ISA": "abacus"}, says=["abacus", "doctor"])


@harness.needs_smollm2
class SmolLm2(harness.ThimbleCase):
    def test_it_knows_the_capital_of_france(self):
        text = self.thimble("run", harness.SMOLLM2, "--raw", "-p", "The capital of France is", "--temp", 0, "-n", 8, "-q")
        self.assertIn("Paris", text)

    # The integer kernels must not depend on how many tokens are read at once.
    def test_guessing_ahead_does_not_change_the_answer(self):
        sample = ["-p", "Say ten times: the quick brown fox jumps over the lazy dog.", "-n", 160, "-q"]
        for temperature in 0, 1:
            options = [*sample, "--temp", temperature, "--seed", 3, "--ignore-eos"]
            plain = self.thimble("run", harness.SMOLLM2, *options)
            for draft_max in 4, 15:
                self.assertEqual(self.thimble("run", harness.SMOLLM2, *options, "--spec-type", "ngram-simple",
                                              "--draft-max", draft_max), plain)

    def test_a_draft_model_does_not_change_the_answer(self):
        for temperature in 0, 1:
            sample = ["-p", "Why is the sky blue?", "-n", 60, "--temp", temperature, "--seed", 3]
            plain = self.run_thimble("run", harness.SMOLLM2, *sample)
            done = self.run_thimble("run", harness.SMOLLM2, *sample, "-md", harness.SMOLLM2)
            self.assertEqual(done.stdout, plain.stdout)
            self.assertIn("(100 %)", done.stderr)  # the model as its own draft
            self.assertNotIn("guessed", plain.stderr)

    def test_a_draft_model_needs_the_same_vocabulary(self):
        self.thimble_fails("run", harness.SMOLLM2, "-p", "x", "-md", LLAMA,
                           says=["llama: a draft model needs the vocabulary", "272", "49152"])


if __name__ == "__main__":
    harness.main()
