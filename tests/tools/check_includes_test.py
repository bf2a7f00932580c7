"""Tests of tools/check_includes.py on small made-up trees."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import check_includes  # noqa: E402

CMAKE = """
thimble_folder(base DEPS fmt::fmt)
thimble_folder(codec DEPS base)  # a comment (with brackets)
thimble_folder(ops DEPS codec)
target_link_libraries(thimble PRIVATE ops CLI11::CLI11)
"""


def complaints(files, cmake=CMAKE):
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / "CMakeLists.txt").write_text(cmake)
        for name, text in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        return check_includes.check(root)


class CheckIncludes(unittest.TestCase):
    def test_accepts_arrows_that_are_declared(self):
        self.assertEqual(complaints({
            "base/a.h": "#include <vector>\n",
            "codec/b.cc": '#include "codec/b.h"\n#include "base/a.h"\n',
            "apps/main.cc": '#include "ops/c.h"\n',
        }), [])

    def test_refuses_an_arrow_that_points_up(self):
        found = complaints({"base/a.cc": '\n#include "codec/b.h"\n'})
        self.assertEqual(len(found), 1)
        self.assertIn("base/a.cc:2: base may not include codec", found[0])

    def test_refuses_an_indirect_arrow(self):
        self.assertEqual(len(complaints({"ops/c_test.cc": '# include "base/a.h"\n'})), 1)
        self.assertEqual(len(complaints({"apps/main.cc": '#include "base/a.h"\n'})), 1)

    def test_refuses_a_path_that_does_not_start_at_the_root(self):
        self.assertIn("from the root", complaints({"base/a.cc": '#include "a.h"\n'})[0])

    def test_refuses_a_cycle(self):
        found = complaints({}, "thimble_folder(a DEPS b)\nthimble_folder(b DEPS a)\n")
        self.assertEqual(found, ["CMakeLists.txt: a names b, which is not a folder declared above it"])

    def test_refuses_an_empty_plan(self):
        self.assertEqual(len(complaints({}, "project(thimble)")), 1)


if __name__ == "__main__":
    unittest.main()
