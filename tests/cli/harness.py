"""Helpers for tests of the whole program: run it, look at what it printed, where it failed and what it wrote.

A test file is tests/cli/<something>_test.py: unittest cases derived from ThimbleCase, and `harness.main()` at the end.
By hand: tests/cli/basics_test.py [Case.test_name] (uses build/release/bin/thimble unless $THIMBLE names another).
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("THIMBLE", str(ROOT / "build/release/bin/thimble"))
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
SHARED = ROOT.parent / "shared"
ALL_SKIPPED = 77  # SKIP_RETURN_CODE in tests/CMakeLists.txt
PATIENCE = int(os.environ.get("THIMBLE_TEST_PATIENCE", "1"))  # what time limits are multiplied by, e.g. in an emulator
not_sanitized = unittest.skipIf(os.environ.get("THIMBLE_SANITIZE"), "a sanitizer takes memory of its own")
slow_in_an_emulator = unittest.skipIf(PATIENCE > 1, "takes too long in an emulator")


class ThimbleCase(unittest.TestCase):
    """A test case with a scratch folder of its own, self.dir, in which the program runs."""

    maxDiff = None

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="thimble-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def run_thimble(self, *args, stdin=None, timeout=300, env=None):
        """Runs `thimble args...` whatever comes of it; a death by signal is always a failure of the test."""
        done = subprocess.run([PROGRAM, *map(str, args)], input=stdin, stdin=None if stdin else subprocess.DEVNULL,
                              capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE * timeout, cwd=self.dir,
                              env={**os.environ, **(env or {})})
        self.assertGreaterEqual(done.returncode, 0, f"died by signal {-done.returncode}\n{done.stderr[-2000:]}")
        return done

    def thimble(self, *args, **options):
        """What a command that must succeed prints on standard output."""
        done = self.run_thimble(*args, **options)
        self.assertEqual(done.returncode, 0, f"thimble {' '.join(map(str, args))}\n{done.stderr[-2000:]}")
        return done.stdout

    def thimble_json(self, *args, **options):
        return json.loads(self.thimble(*args, **options))

    def thimble_fails(self, *args, says=(), **options):
        """The error of a command that must fail, on standard error, with each of `says` in it."""
        done = self.run_thimble(*args, **options)
        self.assertNotEqual(done.returncode, 0, f"thimble {' '.join(map(str, args))} should have failed")
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, done.stderr)
        return done.stderr

    def write(self, name, content):
        path = self.dir / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path


def needs(path, hint):
    """Decorator: skips the test or class where the file is absent, and says how to get it."""
    return unittest.skipUnless(path.exists(), f"{path.name} is not there: {hint}")


needs_smollm2 = needs(SMOLLM2, "tools/fetch_model.py smollm2")
needs_shared = needs(SHARED, "the shared folder is not beside the repository")


def main():
    program = unittest.main(exit=False, verbosity=2, module="__main__")
    result = program.result
    if not result.wasSuccessful() or result.testsRun == 0:
        sys.exit(1)
    sys.exit(ALL_SKIPPED if len(result.skipped) == result.testsRun else 0)
