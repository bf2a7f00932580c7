#!/usr/bin/env python3
"""Render random templates with `thimble template` and with Jinja2, and show where the two differ.

    bench/peers/venv/bin/python tools/fuzz_templates.py [--cases 2000] [--seed 1] [--thimble PATH]

Both must give the same text, or both must fail. Exits with 1 if any case differs.
"""
import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja_reference
import template_snippets

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = template_snippets.VARIABLES
NAMES = [*VARIABLES, "missing", "q", "i", "ns", "m", "loop.index", "loop.last", "people[0].name", "d.a", "ns.v"]
CONSTANTS = ["0", "1", "2", "-3", "10", "2.5", "''", "'a'", "'b,c'", "' x '", "'é👋'", "true", "false", "none", "[]", "{}", "()",
             "'<&>'", "'A b'", "'%s'", "'{}'", "'1.5'"]
FILTERS = ["upper", "lower", "trim", "title", "capitalize", "length", "first", "last", "list", "sort", "unique", "reverse", "join",
           "sum", "min", "max", "int", "float", "string", "round", "abs", "tojson", "escape", "safe", "wordcount", "indent", "items",
           "dictsort", "default", "select", "reject"]
FILTERS_WITH = ["join({})", "default({})", "default({}, true)", "replace({}, {})", "map('upper')", "map('string')", "map('length')",
                "map(attribute={})", "select({})", "select('string')", "select('odd')", "reject('none')", "selectattr({})",
                "selectattr('age', 'gt', {})", "rejectattr('tags')", "sort(reverse=true)", "sort(attribute='name')", "batch({})",
                "slice({})", "batch(2, {})", "groupby({})", "indent({})", "indent(2, true)", "tojson(indent={})", "round({})",
                "int({})", "format({})", "trim({})", "sum(start={})", "unique(true)", "min(attribute='age')", "truncate({})",
                "dictsort(by='value')", "round({}, 'floor')"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean", "integer", "float", "odd",
         "even", "true", "false", "lower", "upper", "callable", "equalto({})", "in {}", "divisibleby {}", "gt({})", "sameas({})"]
METHODS = ["upper()", "lower()", "strip()", "strip({})", "lstrip({})", "rstrip({})", "split()", "split({})", "split({}, 1)",
           "rsplit({}, 1)", "startswith({})", "endswith({})", "replace({}, {})", "find({})", "rfind({})", "count({})", "join({})",
           "format({})", "title()", "capitalize()", "items()", "keys()", "values()", "get({})", "get({}, {})", "splitlines()",
           "isdigit()", "isalpha()", "index({})", "zfill(5)", "center(9)", "partition({})", "swapcase()", "removeprefix({})"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or", "in", "not in"]


class Grammar:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def fill(self, pattern, depth):
        return re.sub(r"\{\}", lambda _: self.expression(depth + 1), pattern)

    def expression(self, depth=0):
        pick = self.random.choice
        if depth > 3 or self.random.random() < 0.25:
            return pick(NAMES) if self.random.random() < 0.65 else pick(CONSTANTS)
        sub = lambda: self.expression(depth + 1)
        kind = self.random.randrange(15)
        if kind < 3:
            return f"{sub()} {pick(OPERATORS)} {sub()}"
        if kind < 5:
            return f"{sub()}|{pick(FILTERS)}"
        if kind == 5:
            return f"{sub()}|{self.fill(pick(FILTERS_WITH), depth)}"
        if kind == 6:
            return f"{sub()} is {pick(['', 'not '])}{self.fill(pick(TESTS), depth)}"
        if kind == 7:
            return f"({sub()}).{self.fill(pick(METHODS), depth)}"
        if kind == 8:
            return f"{pick(NAMES)}[{sub()}]"
        if kind == 9:
            bounds = [pick(["", "1", "-1", "2", "-2", "100", sub()]) for _ in range(3)]
            return f"{pick(NAMES)}[{':'.join(bounds[:self.random.randrange(2, 4)])}]"
        if kind == 10:
            return f"[{sub()}, {sub()}]"
        if kind == 11:
            return f"{{{sub()}: {sub()}, 'k': {sub()}}}"
        if kind == 12:
            return f"({sub()} if {sub()} else {sub()})"
        if kind == 13:
            return f"{pick(['not ', '-', '+', ''])}({sub()})"
        return f"range({sub()})|list"

    def space(self):
        return self.random.choice(["", "", "", " ", "\n", "\n  ", " x ", "\n\n", "\t", "y"])

    def tag(self, text):
        return "{%" + self.random.choice(["", "", "-", "+"]) + f" {text} " + self.random.choice(["", "", "-", "+"]) + "%}"

    def body(self, depth, in_loop):
        return self.space() + "".join(self.statement(depth, in_loop) + self.space() for _ in range(self.random.randrange(1, 4)))

    def statement(self, depth=0, in_loop=False):
        kind = self.random.randrange(4 if depth > 2 else 15)
        inner = lambda loop=in_loop: self.body(depth + 1, loop)
        if kind < 2:
            return "{{" + self.random.choice(["", "-"]) + f" {self.expression()} " + self.random.choice(["", "-"]) + "}}"
        if kind == 2:
            target = self.random.choice(["q", "i", "ns.v", "q, i"])
            return self.tag(f"set {target} = {self.expression()}")
        if kind == 3:
            if not in_loop:
                return "{#" + self.random.choice(["", "-"]) + " note " + self.random.choice(["", "-"]) + "#}"
            return self.tag("if " + self.expression(2)) + self.tag(self.random.choice(["break", "continue"])) + self.tag("endif")
        if kind < 7:
            middle = self.tag("elif " + self.expression(1)) + inner() if self.random.random() < 0.3 else ""
            last = self.tag("else") + inner() if self.random.random() < 0.5 else ""
            return self.tag("if " + self.expression(1)) + inner() + middle + last + self.tag("endif")
        if kind < 11:
            head = self.random.choice(["i in ", "i in ", "i in ", "i, q in "])
            source = self.random.choice(["nums", "words", "people", "d", "d.items()", "name", "range(3)", self.expression(2)])
            test = f" if {self.expression(2)}" if self.random.random() < 0.2 else ""
            last = self.tag("else") + inner() if self.random.random() < 0.3 else ""
            return self.tag(f"for {head}{source}{test}") + inner(True) + last + self.tag("endfor")
        if kind == 11:
            call = self.random.choice(["{{ m() }}", "{{ m(1) }}", "{{ m(i=2) }}", "{{ m(1, 2) }}", "{{ m(q=name)|upper }}"])
            return self.tag(f"macro m(i, q={self.expression(2)})") + inner(False) + self.tag("endmacro") + call
        if kind == 12:
            return self.tag("set q") + inner() + self.tag("endset") + "{{ q|length }}"
        if kind == 13:
            return self.tag(f"with q = {self.expression(2)}") + inner() + self.tag("endwith")
        return self.tag(f"filter {self.random.choice(['upper', 'trim', 'title', 'indent(1)'])}") + inner() + self.tag("endfilter")

    def template(self):
        return "{% set ns = namespace(v=0) %}" + self.body(0, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--thimble", default=str(ROOT / "build/release/bin/thimble"))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-templates-"))
    (folder / "messages.json").write_text("[]")

    def ours(number, source):
        path = folder / f"{number}.jinja"
        path.write_text(source, encoding="utf-8", newline="")
        done = subprocess.run([args.thimble, "template", path, "--messages", folder / "messages.json", "--bos", "", "--eos", "",
                               "--chat-template-kwargs", json.dumps(VARIABLES)], capture_output=True, timeout=60)
        path.unlink()
        if done.returncode not in (0, 1):
            return {"crash": done.returncode}
        return {"error": done.stderr.decode()} if done.returncode else {"text": done.stdout.decode("utf-8")}

    sources = [Grammar(args.seed * 1_000_000 + n).template() for n in range(args.cases)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(ours, range(args.cases), sources))
    n_texts = n_different = 0
    for source, result in zip(sources, results):
        expected = jinja_reference.render(source, VARIABLES)
        n_texts += "text" in expected
        if re.search(r"object \S* ?at 0x", str(expected)):
            continue  # the text shows an address
        if expected.get("text") != result.get("text") or "crash" in result:
            n_different += 1
            print(f"--- {source!r}\n  Jinja2:  {expected}\n  Thimble: {result}")
    print(f"{args.cases} templates, {n_texts} of them rendered, {n_different} differ")
    sys.exit(n_different > 0)


if __name__ == "__main__":
    main()
