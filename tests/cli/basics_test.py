#!/usr/bin/env python3
"""What every command-line program owes: help, and errors that say what to do."""
import harness


class Basics(harness.ThimbleCase):
    def test_help_names_the_commands(self):
        text = self.thimble("--help")
        for command in ["inspect", "convert", "quantize", "eval", "tune", "run", "chat"]:
            self.assertRegex(text, rf"(?m)^\s+{command}\b")

    def test_unknown_command_fails(self):
        self.thimble_fails("knit", says="knit")

    def test_a_repeatable_option_leaves_the_model_alone(self):
        self.thimble_fails("run", "--adapter", "some", "absent.gguf", "-p", "x", says="absent.gguf")

    def test_missing_file_is_named(self):
        self.thimble_fails("inspect", "absent.gguf", says="absent.gguf")


if __name__ == "__main__":
    harness.main()
