"""Tests of tools/make_phone_commands.py: the split is what its description says, and the same every time."""
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_phone_commands as maker  # noqa: E402


OPEN = {"time", "amount", "name", "number", "percent", "app", "query", "place", "text", "title", "language", "city"}


def expansions(phrasing):
    choice = re.search(r"\(([^()]*\|[^()]*)\)", phrasing)
    if not choice:
        return {maker.normalised(phrasing)}
    return {text for option in choice[1].split("|")
            for text in expansions(phrasing[:choice.start()] + option + phrasing[choice.end():])}


def user(entry):
    return entry["messages"][1]["content"]


def answer(entry):
    return json.loads(entry["messages"][2]["content"])


def values(entries, field):
    return {answer(entry)[field] for entry in entries if field in answer(entry)}


class MakePhoneCommands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.train, cls.heldout = maker.make(2500, 200, 7)
        cls.new_values = [entry for entry in cls.heldout if entry["unseen"] == "values"]
        cls.new_phrasings = [entry for entry in cls.heldout if entry["unseen"] == "phrasing"]

    def test_no_command_occurs_twice(self):
        commands = [maker.normalised(user(entry)) for entry in self.train + self.heldout]
        self.assertEqual(len(commands), 2700)
        self.assertEqual(len(set(commands)), 2700)

    def test_held_out_values_never_occur_in_training(self):
        self.assertEqual(len(self.new_values), 100)
        for field in ["time", "name", "number", "percent", "app", "query", "place", "title", "language", "city"]:
            with self.subTest(field):
                self.assertTrue(values(self.new_values, field))
                self.assertFalse(values(self.new_values, field) & values(self.train, field))

    def test_no_two_phrasings_spell_the_same(self):
        # So that a held-out phrasing cannot come back as a choice of another one.
        owners = {}
        for group in maker.all_phrasings():
            for phrasing in group:
                for text in {text for _, _, uses in phrasing for text in expansions(uses)}:
                    self.assertEqual(owners.setdefault(text, phrasing), phrasing)

    def test_held_out_phrasings_never_occur_in_training(self):
        def bare(entry):
            """A command without its values: "wake me at 0". Typos and polite words vary it; most have neither."""
            text = maker.normalised(user(entry))
            for field in sorted(OPEN & answer(entry).keys(), key=lambda key: -len(str(answer(entry)[key]))):
                text = text.replace(maker.normalised(str(answer(entry)[field])), "#")
            return re.sub(r"[0-9]+", "0", text)

        self.assertEqual({bare(entry) for entry in self.new_phrasings} & {bare(entry) for entry in self.train}, set())
        new_values = {bare(entry) for entry in self.new_values}
        self.assertGreater(len(new_values & {bare(entry) for entry in self.train}), 20)  # the check above does see

    def test_answers_are_canonical(self):
        for entry in self.train + self.heldout:
            content = entry["messages"][2]["content"]
            self.assertEqual(content, json.dumps(answer(entry), ensure_ascii=False, separators=(",", ":")))
            self.assertEqual(next(iter(answer(entry))), "action")
            self.assertNotRegex(user(entry), r"[{}()|]|  ")

    def test_every_action_is_in_both_parts(self):
        actions = values(self.train, "action")
        self.assertEqual(actions, {rule[0] for group in maker.all_phrasings() for held in group for rule in held})
        self.assertEqual(values(self.heldout, "action"), actions)

    def test_same_seed_same_bytes(self):
        def digest(*args):
            with tempfile.TemporaryDirectory() as out:
                subprocess.run([sys.executable, ROOT / "tools/make_phone_commands.py", out, *args], check=True,
                               stdout=subprocess.DEVNULL)
                return [hashlib.sha256((pathlib.Path(out) / name).read_bytes()).hexdigest()
                        for name in ["train.jsonl", "heldout.jsonl"]]

        self.assertEqual(digest(), digest())
        self.assertNotEqual(digest(), digest("--seed", "8"))


if __name__ == "__main__":
    unittest.main()
