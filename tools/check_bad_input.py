#!/usr/bin/env python3
"""Shows that damaged files end in clear errors, and that a full disk or an interruption leaves the old file intact.

  tools/check_bad_input.py [--build build/asan-ubsan] [--changes 10000] [--only reading|writing]

Reading, under AddressSanitizer and UndefinedBehaviorSanitizer (fuzz/bad_input.cc): the small models of
tests/golden/models, and GGUF files that the program makes of them, are cut at every boundary of a section, and get
--changes random changes of one byte per kind of file.

Writing: quantize, convert and tune replace an existing output while the disk is full (a small tmpfs where we may
mount one, else a limit on the size of a file) or while they are interrupted (SIGINT, SIGTERM, SIGKILL) at random
moments. The output must then be the old one or the whole new one.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests/golden/models"
READ_MODELS = ["llama", "gemma3_text", "qwen3"]
failures = []


def say(text):
    print(text, flush=True)


def fail(text):
    failures.append(text)
    say(f"FAILED: {text}")


def run(program, *args, **options):
    return subprocess.run([program, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=600, **options)


def must(program, *args):
    done = run(program, *args)
    if done.returncode != 0:
        sys.exit(f"{pathlib.Path(program).name} {' '.join(map(str, args))}\n{done.stderr[-3000:]}")


# --- Reading


def check_reading(build, thimble, changes, scratch):
    ggufs = []
    for name in READ_MODELS:
        ggufs.append(scratch / f"{name}.gguf")
        must(thimble, "convert", MODELS / name, "-o", ggufs[-1])
    for kind in ["q8_0", "q4_0", "t3"]:
        ggufs.append(scratch / f"llama-{kind}.gguf")
        must(thimble, "quantize", ggufs[0], "-o", ggufs[-1], "--type", kind)
    files = {"gguf": ggufs}
    for target, name in [("safetensors", "model.safetensors"), ("config", "config.json"),
                         ("tokenizer", "tokenizer.json"), ("template", "chat_template.jinja")]:
        files[target] = [MODELS / "llama" / name]
    files["reference"] = [ROOT / "tests/golden/reference.tref"]
    for target, paths in files.items():
        start = time.monotonic()
        done = subprocess.run([build / "bin/bad_input", target, str(changes // len(paths)), *paths],
                              capture_output=True, text=True, errors="replace")
        lines = done.stdout.splitlines()
        say(f"{lines[0] if lines else target}, {time.monotonic() - start:.0f} s")
        if done.returncode != 0:
            fail(f"reading {target}:\n{done.stderr[-6000:]}")


# --- Writing


class Job:
    """A command that replaces `output`: a file, or those files of a folder whose names match `pattern`."""

    def __init__(self, name, folder, output, args, pattern="*"):
        self.name, self.output, self.pattern = name, folder / output, pattern
        self.args = [*args, "-o", self.output]

    def files(self):
        """Name -> bytes of what is there; temporary files left out."""
        paths = [self.output] if self.output.is_file() else sorted(self.output.glob(self.pattern))
        return {path.name: path.read_bytes() for path in paths if path.is_file() and ".tmp" not in path.name}

    def temporary(self):
        return [path for path in self.output.parent.rglob("*") if ".tmp" in path.name]


@contextlib.contextmanager
def small_disk(megabytes):
    """A tmpfs of that size, or None where we may not mount one."""
    with tempfile.TemporaryDirectory(prefix="thimble-disk-") as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder],
                                 capture_output=True).returncode == 0
        try:
            yield pathlib.Path(folder) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


def check_outcome(job, what, old, new):
    """Each file must be wholly old or wholly new; a file of a folder may also be missing if it is new."""
    now = job.files()
    for name in old.keys() | now.keys():
        if name not in now or now[name] not in (old.get(name), new.get(name)):
            fail(f"{job.name}, {what}: {name} is {'damaged' if name in now else 'gone'}")
    return now


def check_refused(job, what, done, old):
    if done.returncode == 0:
        fail(f"{job.name}, {what}: reported success")
    elif done.returncode < 0:
        fail(f"{job.name}, {what}: died by signal {-done.returncode}")
    elif job.output.parent.name not in done.stderr or len(done.stderr) < 20:
        fail(f"{job.name}, {what}: the error does not name the file: {done.stderr[-500:]}")
    if job.files() != old:
        fail(f"{job.name}, {what}: the old output changed")
    if job.temporary():
        fail(f"{job.name}, {what}: left {job.temporary()[0].name} behind")


def check_full(thimble, make, old_bytes):
    """`make(folder)` gives the job; the limit leaves room for half of what it writes."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (old_bytes // 2, old_bytes // 2))

    with tempfile.TemporaryDirectory(prefix="thimble-limit-") as folder:
        job = make(pathlib.Path(folder))
        must(thimble, *job.args)
        old = job.files()
        check_refused(job, "with a limit on the file's size", run(thimble, *job.args, preexec_fn=limit), old)
        with small_disk(max(1, sum(map(len, old.values())) * 3 // 2 >> 20)) as disk:
            if disk is None:
                return "a limit on the file's size (no tmpfs: mount is not allowed here)"
            job = make(disk)
            must(thimble, *job.args)
            filler = disk / "filler"
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as out:
                while True:
                    out.write(bytes(4096))
            os.truncate(filler, max(0, filler.stat().st_size - old_bytes // 2))
            check_refused(job, "on a full disk", run(thimble, *job.args), job.files())
            return "a limit on the file's size and a full tmpfs"


def check_interrupts(thimble, make, times):
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="thimble-stop-") as folder:
        job = make(pathlib.Path(folder))
        start = time.monotonic()
        must(thimble, *job.args)
        duration = time.monotonic() - start
        new = job.files()
        # An old output that no run writes, so that old and new can be told apart.
        old = {name: b"old " + content[:1000] for name, content in new.items()}
        stopped = 0
        for i in range(times):
            for name, content in old.items():
                (job.output / name if job.output.is_dir() else job.output).write_bytes(content)
            number = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL][i % 3]
            process = subprocess.Popen([thimble, *map(str, job.args)], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0, duration))
            process.send_signal(number)
            stopped += process.wait(timeout=60) != 0
            check_outcome(job, f"{number.name} (try {i})", old, new)
            if number != signal.SIGKILL and job.temporary():
                fail(f"{job.name}, {number.name}: left {job.temporary()[0].name} behind")
            for path in job.temporary():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return f"{stopped} of {times} runs stopped before their end"


def check_checkpoints(thimble, model, data, times):
    """Whatever checkpoint a stopped run leaves, training goes on from it."""
    rng = random.Random(2)
    resumed = 0
    with tempfile.TemporaryDirectory(prefix="thimble-tune-") as folder:
        out = pathlib.Path(folder) / "adapter"
        args = [thimble, "tune", model, "--data", data, "-o", out, "--max-steps", 30, "--save-steps", 1, "--rank", 2]
        start = time.monotonic()
        must(*args)
        duration = time.monotonic() - start
        for i in range(times):
            shutil.rmtree(out)
            process = subprocess.Popen(list(map(str, args)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.2, 1) * duration)
            process.send_signal([signal.SIGINT, signal.SIGTERM, signal.SIGKILL][i % 3])
            process.wait(timeout=60)
            steps = [int(match[1]) for path in out.glob("checkpoint-*")
                     if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))]
            if not steps:
                out.mkdir(parents=True, exist_ok=True)
                continue
            for step in {min(steps), max(steps)}:
                done = run(*args, "--resume", out / f"checkpoint-{step}")
                resumed += 1
                if done.returncode != 0:
                    fail(f"tune: checkpoint-{step} of a stopped run does not resume: {done.stderr[-500:]}")
    return f"{resumed} checkpoints of {times} stopped runs resumed"


def check_writing(thimble, scratch, times=30):
    model = scratch / "model.gguf"
    must(thimble, "convert", MODELS / "llama", "-o", model)
    data = scratch / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"This is line {i} of the data."}) + "\n" for i in range(40)))
    jobs = {
        "quantize": lambda folder: Job("quantize", folder, "out.gguf", ["quantize", model, "--type", "q8_0"]),
        "convert to GGUF": lambda folder: Job("convert to GGUF", folder, "out.gguf", ["convert", MODELS / "llama"]),
        "convert to a folder": lambda folder: Job("convert to a folder", folder, "out", ["convert", model]),
        "tune": lambda folder: Job("tune", folder, "out", ["tune", model, "--data", data, "--max-steps", "4"],
                                   pattern="adapter_*"),
    }
    for name, make in jobs.items():
        with tempfile.TemporaryDirectory(prefix="thimble-size-") as folder:
            job = make(pathlib.Path(folder))
            must(thimble, *job.args)
            largest = max(map(len, job.files().values()))
        say(f"{name}: {check_full(thimble, make, largest)}; {check_interrupts(thimble, make, times)}")
    say(f"tune: {check_checkpoints(thimble, model, data, times)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/asan-ubsan")
    parser.add_argument("--changes", type=int, default=10000)
    parser.add_argument("--only", choices=["reading", "writing"])
    args = parser.parse_args()
    build = args.build.resolve()
    if args.build == ROOT / "build/asan-ubsan":
        must("cmake", "-S", ROOT, "--preset", "asan-ubsan", "--log-level=WARNING")
        must("ninja", "-C", build, "--quiet", "thimble", "bad_input")
    thimble = build / "bin/thimble"
    with tempfile.TemporaryDirectory(prefix="thimble-bad-input-") as scratch:
        if args.only != "writing":
            check_reading(build, thimble, args.changes, pathlib.Path(scratch))
        if args.only != "reading":
            check_writing(thimble, pathlib.Path(scratch))
    say("bad input: " + (f"{len(failures)} failures" if failures else "all good"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
