#!/usr/bin/env python3
"""thimble chat: conversations through a pipe, and on a terminal."""
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import time

import harness

LLAMA = harness.ROOT / "tests/golden/models/llama"
GREEDY = ["-t", 1, "--compute", "f32", "--temp", 0, "-n", 8]


def write_adapter(folder, seed, rank=2, scale=8.0):
    """A PEFT adapter for the query projections of the tiny model, with pseudo-random weights."""
    config = json.loads((LLAMA / "config.json").read_text())
    d, n_out = config["hidden_size"], config["num_attention_heads"] * config["head_dim"]
    state, tensors, header, data = seed, {}, {}, b""
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
        tensors[name + "A.weight"], tensors[name + "B.weight"] = (rank, d), (n_out, rank)
    for name, shape in tensors.items():
        values = []
        for _ in range(shape[0] * shape[1]):
            state = (state * 1103515245 + 12345) % 2**31
            values.append(state / 2**30 - 1)
        header[name] = dict(dtype="F32", shape=shape, data_offsets=[len(data), len(data) + 4 * len(values)])
        data += struct.pack(f"<{len(values)}f", *values)
    head = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    (folder / "adapter_config.json").write_text(json.dumps(dict(
        peft_type="LORA", r=rank, lora_alpha=scale, target_modules=["q_proj"], bias="none")))
    return folder


class Piped(harness.ThimbleCase):
    def chat(self, *lines, args=()):
        """What is printed for each line, none of which may fail."""
        return self.thimble("chat", LLAMA, *GREEDY, *args, stdin="".join(line + "\n" for line in lines))

    def test_answers_are_those_of_run(self):
        alone = self.thimble("run", LLAMA, *GREEDY, "-q", "-p", "Hello")
        self.assertEqual(self.chat("Hello"), alone)
        self.assertEqual(self.chat("Hello", args=["--spec-type", "ngram-simple"]), alone)
        self.assertEqual(self.chat("Hello", args=["-md", LLAMA]), alone)
        self.assertEqual(self.chat("Hello", args=["--system", "Be kind."]),
                         self.thimble("run", LLAMA, *GREEDY, "-q", "-p", "Hello", "--system", "Be kind."))

    def test_the_second_answer_knows_the_first(self):
        alone, both = self.chat("Hello"), self.chat("Hello", "Hello")
        self.assertTrue(both.startswith(alone))
        self.assertNotEqual(both, alone + alone)

    def test_clear_forgets_and_keeps_the_system_message(self):
        system = ["--system", "Be kind."]
        alone = self.chat("Hello", args=system)
        self.assertEqual(self.chat("Hello", "/clear", "Hello", args=system), alone + alone)

    def test_system_begins_anew(self):
        self.assertEqual(self.chat("Hello", "/system Be kind.", "Hello"),
                         self.chat("Hello") + self.chat("Hello", args=["--system", "Be kind."]))
        self.assertEqual(self.chat("/system", "Hello", args=["--system", "x"]), self.chat("Hello"))

    def test_regen_answers_again(self):
        self.assertEqual(self.chat("Hello", "/regen"), 2 * self.chat("Hello"))
        sampled = ["--temp", 1, "--seed", 1, "-n", 30]
        first = self.thimble("chat", LLAMA, "-t", 1, *sampled, stdin="Hello\n")
        both = self.thimble("chat", LLAMA, "-t", 1, *sampled, stdin="Hello\n/regen\n")
        self.assertTrue(both.startswith(first))
        self.assertNotEqual(both, first + first)

    def test_lines_that_go_on(self):
        prompt = self.write("prompt.txt", "one\ntwo")
        self.assertEqual(self.chat("one\\", "two"), self.thimble("run", LLAMA, *GREEDY, "-q", "-f", prompt))

    def test_the_last_line_may_lack_its_end_and_exit_ends(self):
        self.assertEqual(self.thimble("chat", LLAMA, *GREEDY, stdin="Hello"), self.chat("Hello"))
        self.assertEqual(self.chat("Hello", "/exit", "Hello"), self.chat("Hello"))
        self.assertEqual(self.thimble("chat", LLAMA, *GREEDY), "")

    def test_a_full_context_is_refused_and_said(self):
        done = self.run_thimble("chat", LLAMA, *GREEDY, "-c", 64, stdin="Hello\n" + "x" * 80 + "\n/clear\nHello\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the context holds 64", done.stderr)
        self.assertIn("/clear", done.stderr)
        self.assertEqual(done.stdout, 2 * self.chat("Hello"))

    def test_unknown_commands_are_named(self):
        self.thimble_fails("chat", LLAMA, *GREEDY, stdin="/dance\n", says=["/dance", "/help"])
        self.thimble_fails("chat", LLAMA, *GREEDY, stdin="/regen\n", says="no answer yet")
        self.assertIn("/adapter", self.chat("/help"))

    def test_adapters_switch_without_reloading(self):
        one, two = write_adapter(self.dir / "one", 1), write_adapter(self.dir / "two", 2)
        base = self.chat("Hello")
        alone = {path.name: self.chat("Hello", args=["--adapter", path]) for path in (one, two)}
        half = self.chat("Hello", args=["--adapter", f"{one}=0.5", "--adapter", two])
        self.assertEqual(len({base, half, *alone.values()}), 4, "the adapters must make a difference")
        both = ["--adapter", one, "--adapter", two]
        said = self.chat("/adapter off", "Hello", "/adapter one", "/clear", "Hello", "/adapter two", "/clear", "Hello",
                         "/adapter one=0.5", "/clear", "Hello", "/adapter one=0", "/clear", "Hello", args=both)
        self.assertEqual(said, base + alone["one"] + alone["two"] + half + alone["two"])
        self.assertEqual(self.chat(f"/adapter load {one}=0.5", f"/adapter load {two}", "Hello"), half)
        listed = self.chat("/adapter one=0.25", "/adapter list", args=both)
        self.assertRegex(listed, r"one=0\.25 .*\ntwo=1 ")
        self.assertEqual(self.thimble("run", LLAMA, *GREEDY, "-q", "-p", "Hello", "--adapter", one), alone["one"])

    def test_bad_adapters_are_named(self):
        one = write_adapter(self.dir / "one", 1)
        self.thimble_fails("chat", LLAMA, *GREEDY, stdin="/adapter three\n", says=["three", "none"])
        self.thimble_fails("chat", LLAMA, *GREEDY, "--adapter", one, stdin="/adapter three=1\n", says=["three", "one"])
        self.thimble_fails("chat", LLAMA, *GREEDY, "--adapter", one, stdin="/adapter one=x\n", says="not a number")
        self.thimble_fails("chat", LLAMA, *GREEDY, stdin="/adapter load absent\n", says="absent")

    def test_a_template_of_ones_own(self):
        template = self.write("plain.jinja", "{{ messages[-1].content }}")
        self.assertEqual(self.chat("Hello", args=["--chat-template", template]),
                         self.thimble("run", LLAMA, *GREEDY, "-q", "--raw", "-p", "Hello"))
        refuses = self.write("strict.jinja", "{{ raise_exception('no jokes') }}")
        self.thimble_fails("chat", LLAMA, *GREEDY, "--chat-template", refuses, stdin="Hello\n", says="no jokes")


class Terminal(harness.ThimbleCase):
    """On a pseudo-terminal: prompts, Ctrl-C, Ctrl-D."""

    def setUp(self):
        super().setUp()
        self.terminal, inner = pty.openpty()
        self.process = subprocess.Popen(
            [harness.PROGRAM, "chat", str(LLAMA), "-t", "1", "--seed", "1", "-c", "256"], stdin=inner, stdout=inner, stderr=inner,
            start_new_session=True, preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0))
        os.close(inner)
        self.seen = ""
        self.addCleanup(os.close, self.terminal)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)

    def expect(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.terminal], [], [], max(0, end - time.monotonic()))
            self.assertTrue(ready, f"no {pattern!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError:  # the other side is closed
                self.assertRegex(self.seen, pattern)
                return
        self.seen = self.seen[match.end():]

    def send(self, keys):
        os.write(self.terminal, keys.encode())

    def test_ctrl_d_leaves(self):
        self.expect(r"/help")
        self.expect("> ")
        self.send("Hello\n")
        self.expect(r"tokens/s; prompt \d+ tokens")
        self.expect("> ")
        self.send("\x04")
        self.assertEqual(self.process.wait(60), 0)

    def test_ctrl_c_twice_leaves(self):
        self.expect("> ")
        self.send("\x03")
        self.expect("once more leaves")
        self.send("\x03")
        self.assertEqual(self.process.wait(60), 130)

    def test_ctrl_c_once_is_forgotten_with_the_next_line(self):
        self.expect("> ")
        self.send("\x03")
        self.expect("once more leaves")
        self.send("/adapter list\n")
        self.expect("no adapters")
        self.send("\x03")
        self.expect("once more leaves")
        self.assertIsNone(self.process.poll())


@harness.needs_smollm2
class SmolLm2(harness.ThimbleCase):
    def test_ctrl_c_stops_the_answer(self):
        process = subprocess.Popen([harness.PROGRAM, "chat", str(harness.SMOLLM2), "--temp", "0"], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        process.stdin.write("Tell me a very long story about a tree.\n")
        process.stdin.flush()
        process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate("/clear\nSay hello.\n", timeout=120 * harness.PATIENCE)
        self.assertEqual(process.returncode, 0, err)
        self.assertLess(len(out), 2000)
        self.assertGreater(len(out.splitlines()[-1]), 3, "and goes on with the next")


if __name__ == "__main__":
    harness.main()
