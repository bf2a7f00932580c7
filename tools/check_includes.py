#!/usr/bin/env python3
"""Checks that every #include between folders follows an arrow of the plan.

The arrows are the thimble_folder(NAME DEPS ...) calls in CMakeLists.txt: a folder includes itself and the folders
that it names, directly; it names only folders declared above it, so there is no cycle. apps/ may include what the
program `thimble` links.

  tools/check_includes.py [ROOT]
"""
import pathlib
import re
import sys

SOURCES = {".cc", ".h", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def read_arrows(cmake):
    """Folder -> folders that it may include, and a list of complaints about the declarations themselves."""
    text = re.sub(r"#.*", "", cmake)
    arrows, complaints = {}, []
    for name, rest in re.findall(r"thimble_folder\(\s*(\S+)([^)]*)\)", text):
        deps = [dep for dep in rest.split() if dep != "DEPS" and "::" not in dep]
        for dep in deps:
            if dep not in arrows:
                complaints.append(f"CMakeLists.txt: {name} names {dep}, which is not a folder declared above it")
        arrows[name] = {name, *deps}
    program = re.search(r"target_link_libraries\(\s*thimble\s+PRIVATE([^)]*)\)", text)
    if program:
        arrows["apps"] = {"apps", *(dep for dep in program.group(1).split() if "::" not in dep)}
    return arrows, complaints


def check_folder(root, folder, allowed):
    complaints = []
    for path in sorted((root / folder).rglob("*")):
        if path.suffix not in SOURCES:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target, _, inside = match.group(1).partition("/")
            where = f"{path.relative_to(root)}:{number}"
            if not inside:
                complaints.append(f'{where}: "{match.group(1)}" must be written from the root: "{folder}/..."')
            elif target not in allowed:
                complaints.append(f"{where}: {folder} may not include {target} (only {', '.join(sorted(allowed))})")
    return complaints


def check(root):
    arrows, complaints = read_arrows((root / "CMakeLists.txt").read_text(encoding="utf-8"))
    if not arrows:
        complaints.append("CMakeLists.txt: no thimble_folder(...) call found")
    for folder, allowed in arrows.items():
        complaints += check_folder(root, folder, allowed)
    return complaints


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    complaints = check(root)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
