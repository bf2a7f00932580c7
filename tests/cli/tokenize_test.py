#!/usr/bin/env python3
"""thimble tokenize and detokenize."""
import shutil

import harness

TINY = harness.ROOT / "tests/golden/models/llama"  # a folder as Hugging Face saves it


class Tokenize(harness.ThimbleCase):
    def test_text_file_and_standard_input_give_the_same(self):
        ids = self.thimble_json("tokenize", TINY, "--text", "the thé\n", "--json")
        self.assertGreater(len(ids), 2)
        self.assertEqual(self.thimble_json("tokenize", TINY, "--file", self.write("x.txt", "the thé\n"), "--json"), ids)
        self.assertEqual(self.thimble_json("tokenize", TINY, "--file", "-", "--json", stdin="the thé\n"), ids)
        back = self.thimble("detokenize", TINY, "--ids", ",".join(map(str, ids)))
        self.assertEqual(back, "the thé\n")

    def test_an_empty_text_has_no_ids(self):
        self.assertEqual(self.thimble_json("tokenize", TINY, "--text", "", "--json"), [])
        self.assertEqual(self.thimble_json("tokenize", TINY, "--file", self.write("x.txt", ""), "--json"), [])

    def test_special_tokens_are_read_unless_told_otherwise(self):
        self.assertEqual(self.thimble_json("tokenize", TINY, "--text", "<s></s>", "--json"), [0, 1])
        self.assertGreater(len(self.thimble_json("tokenize", TINY, "--text", "<s></s>", "--no-special", "--json")), 2)
        self.assertEqual(self.thimble("detokenize", TINY, "--ids", "0,1"), "")
        self.assertEqual(self.thimble("detokenize", TINY, "--ids", "0,1", "--special"), "<s></s>")

    def test_without_json_a_line_per_token(self):
        lines = self.thimble("tokenize", TINY, "--text", "<s>a").splitlines()
        self.assertEqual(lines[0], '0\t"<s>"')
        self.assertEqual(len(lines), 2)

    def test_needs_one_source(self):
        self.thimble_fails("tokenize", TINY, says=["--text", "--file"])
        self.thimble_fails("tokenize", TINY, "--text", "a", "--file", "b", says=["--text", "--file"])
        self.thimble_fails("tokenize", TINY, "--file", "absent.txt", says="absent.txt")

    def test_ids_outside_of_the_vocabulary(self):
        self.thimble_fails("detokenize", TINY, "--ids", "0,272", says="272")
        self.thimble_fails("detokenize", TINY, "--ids", "-1", says="-1")

    def test_a_damaged_tokenizer_is_named(self):
        shutil.copytree(TINY, self.dir / "m")
        self.write("m/tokenizer.json", '{"model": {"type": "Unigram", "vocab": []}}')
        self.thimble_fails("tokenize", "m", "--text", "a", says=["m: tokenizer.json: model.type", "Unigram"])

    @harness.needs_shared
    def test_a_vocabulary_without_weights(self):
        vocabulary = harness.SHARED / "conformance/tokenizers/ggml-vocab-llama-spm.gguf"
        self.assertEqual(self.thimble_json("tokenize", vocabulary, "--text", "Hello", "--json"), [1, 15043])
        self.assertEqual(self.thimble("detokenize", vocabulary, "--ids", "1,15043"), "Hello")


if __name__ == "__main__":
    harness.main()
