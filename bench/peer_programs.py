"""The programs that bench/peers.py and bench/load.py let run against each other. Not a command."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "build/release/bin"
LLAMA_PEER = ROOT / "bench/peers/llama_peer"
OPENVINO_PYTHON = ROOT / "bench/peers/openvino/bin/python"
MODELS = ROOT / "build/bench"
SMOLLM2 = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
N_PROMPT, N_GEN = 512, 128


def run(*command, env=None):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=dict(os.environ, **(env or {})))
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def seconds(*command):
    start = time.perf_counter()
    run(*command)
    return time.perf_counter() - start


def thimble_bench(model, threads, n_prompt=N_PROMPT, n_gen=N_GEN, repeat=1):
    """{"pp": row, "tg": row} as `thimble bench -o json` has them."""
    rows = json.loads(run(BIN / "thimble", "bench", model, "-t", threads, "-p", n_prompt, "-n", n_gen, "-r", repeat,
                          "-o", "json"))
    return {row["test"][:2]: row for row in rows}


class Llama:
    """llama.cpp with a model loaded, waiting for something to do; its threads sleep meanwhile."""

    def __init__(self, model, threads, repack, n_ctx=N_PROMPT):
        command = [LLAMA_PEER, "serve", model, threads, n_ctx, int(repack)]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.name = "repacked" if repack else "as in the file"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def rate(self, what, n):
        """Tokens per second; what: "pp" or "tg". Keeps the peak of the process's memory in peak_rss."""
        print(what, n, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            sys.exit("llama_peer died")
        self.peak_rss = int(answer[1])
        return float(answer[0])


def smollm2(mix):
    """SmolLM2 in a type, made by us from the F16 that its Q4_1 stands for."""
    f16, path = MODELS / "smollm2.F16.gguf", MODELS / f"smollm2.{mix}.gguf"
    MODELS.mkdir(parents=True, exist_ok=True)
    if not f16.exists():
        run(BIN / "thimble", "dequantize", SMOLLM2, "-o", f16, "--type", "F16")
    if not path.exists():
        run(BIN / "thimble", "quantize", f16, "-o", path, "--type", mix)
    return path


def random_model(shape, mix):
    path = MODELS / f"random-{shape}.{mix}.gguf"
    MODELS.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        run(BIN / "random_model", shape, mix, path)
    return path


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith(("model name", "CPU part"))]
    return f"{names[0] if names else 'unknown processor'}, {len(os.sched_getaffinity(0))} cores"


def load_average():
    return os.getloadavg()[0]


median = statistics.median
