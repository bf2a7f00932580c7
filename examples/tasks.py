#!/usr/bin/env python3
"""Real tasks: from published data to a table of what was taught how, what that took, and how good it is.

  examples/tasks.py data TASK              writes train, valid and test JSONL into out/tasks/TASK
  examples/tasks.py run TASK [ROW...]      trains and scores these rows of the table (default: all); finished ones are kept
  examples/tasks.py table TASK             the table of what was run, as Markdown

Data lie in one folder each under --data, as their authors publish them (banking77, clinc150, korean-english, multi30k,
nsmc). Scores are of the test parts, which no training sees; hyper-parameters were chosen on the validation parts. The
column "KL divergence" is what was forgotten: how far predictions on English prose moved from those of the base without
the adapter. Everything is computed by the program `thimble` (make build) on the model that tools/fetch_model.py brings.
"""
import argparse
import csv
import dataclasses
import gzip
import json
import pathlib
import random
import signal
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build/release/bin/thimble"
PEERS = ROOT / "bench/peers/venv"
PROSE = ROOT / "examples/demo/eval_text.txt"
LANGUAGES = dict(en="English", de="German", fr="French", ko="Korean")


def pair(prompt, answer):
    return dict(prompt=prompt, completion=" " + answer)


def shuffled(items, seed=0):
    items = list(items)
    random.Random(seed).shuffle(items)
    return items


def clinc150(folder):
    """150 intents, and utterances that have none of them."""
    data = json.loads((folder / "clinc150/data_full.json").read_text())

    def intents(part):
        return [pair(f"{text}\nIntent:", "out of scope" if intent == "oos" else intent.replace("_", " ")) for text, intent in data[part]]
    return dict(train=intents("train") + intents("oos_train"), valid=intents("val") + intents("oos_val"), test=intents("test"),
                test_out_of_scope=intents("oos_test"))


def banking77(folder):
    """77 intents of a bank's customers; the last 1,000 of the shuffled training part validate."""
    def intents(part):
        with open(folder / f"banking77/{part}.csv", encoding="utf-8", newline="") as file:
            return [pair(f"{row['text'].strip()}\nIntent:", row["category"].replace("_", " ")) for row in csv.DictReader(file)]
    train = shuffled(intents("train"))
    return dict(train=train[:-1000], valid=train[-1000:], test=intents("test"))


def nsmc(folder):
    """Korean film reviews: positive or negative; the last 1,000 of the training part validate."""
    def reviews(part):
        rows = [line.split("\t") for line in (folder / f"nsmc/ratings_{part}.txt").read_text().splitlines()[1:]]
        return [pair(f"{text.strip()}\n감정:", "긍정" if label == "1" else "부정") for _, text, label in rows if text.strip()]
    train = shuffled(reviews("train"))
    return dict(train=train[:-1000], valid=train[-1000:], test=reviews("test"))


def translations(source, target, sources, targets):
    return [pair(f"{LANGUAGES[source]}: {a.strip()}\n{LANGUAGES[target]}:", b.strip()) for a, b in zip(sources, targets, strict=True)
            if a.strip() and b.strip()]


def multi30k(target):
    def read(folder):
        """Captions of photographs."""
        def part(name):
            return translations("en", target, *(gzip.open(folder / f"multi30k/{name}.{language}.gz", "rt", encoding="utf-8")
                                                for language in ("en", target)))
        return dict(train=part("train"), valid=part("val"), test=part("test_2016_flickr"))
    return read


def korean_english(folder):
    """Sentences of school books, and of the news in training."""
    def part(name):
        return translations("ko", "en", *((folder / f"korean-english/jhe-koen-{name}.{language}").read_text().splitlines()
                                          for language in ("ko", "en")))

    def news(name):
        with tarfile.open(folder / f"korean-english/park.{name}.tar.gz") as archive:
            files = {member.name.rsplit(".", 1)[-1]: archive.extractfile(member).read().decode() for member in archive if member.isfile()}
        return translations("ko", "en", files["ko"].splitlines(), files["en"].splitlines())
    dev = shuffled(part("dev"))
    return dict(train=news("dev") + news("test") + dev[:-100], valid=dev[-100:], test=part("eval"))


@dataclasses.dataclass
class Task:
    read: object
    model: str = "smollm2"
    batch_size: int = 16
    learning_rate: float = 2e-3  # of the rows with LoRA; chosen on the validation part of the first of the model's tasks
    answer_tokens: int = 16
    most_tests: int = 1000  # of each part, drawn at random; 0: all


TASKS = dict(clinc150=Task(clinc150), banking77=Task(banking77), nsmc=Task(nsmc, "gemma", learning_rate=2e-4, answer_tokens=4),
             **{"en-de": Task(multi30k("de"), answer_tokens=80, most_tests=0),
                "en-fr": Task(multi30k("fr"), answer_tokens=80, most_tests=0),
                "ko-en": Task(korean_english, "gemma", learning_rate=2e-4, answer_tokens=80, most_tests=0)})

# The base's type and how it is taught, for STEPS steps where nothing is said; None: not at all. Where a row says nothing of the
# learning rate it is the task's; the others were chosen on clinc150's validation part.
STEPS = 300
PEFT = object()
LORA = ["--rank", 8, "--lora-alpha", 16]
ROWS = {
    "untaught": ("IQ4_NL", None),
    "lora-f32": ("F32", [*LORA, "--compute", "f32"]),
    "lora-8-bit": ("Q8_0", LORA),
    "lora-4-bit": ("IQ4_NL", LORA),
    "lora-3-bit": ("T3", LORA),
    "lora-epoch": ("IQ4_NL", [*LORA, "--epochs", 1]),
    "dora": ("IQ4_NL", ["--method", "dora", *LORA]),
    "ia3": ("IQ4_NL", ["--method", "ia3", "--learning-rate", 1e-2]),
    "prompt-tuning": ("IQ4_NL", ["--method", "prompt-tuning", "--num-virtual-tokens", 20, "--learning-rate", 3e-2]),
    "bottleneck": ("IQ4_NL", ["--method", "bottleneck", "--bottleneck-size", 32, "--learning-rate", 2e-3]),
    "lora-by-peft": ("F32", PEFT),  # needs make peers
    "full": ("F32", ["--method", "full", "--learning-rate", 1e-4, "--compute", "f32"]),
}


def run(*command):
    print("$", *command, file=sys.stderr, flush=True)
    on_interrupt = signal.signal(signal.SIGINT, lambda *_: None)  # the program saves a checkpoint, and says so
    status = subprocess.run(list(map(str, command))).returncode
    signal.signal(signal.SIGINT, on_interrupt)
    if status != 0:
        sys.exit(status if status > 0 else 1)


def write_data(task, args):
    folder = args.out / args.task
    folder.mkdir(parents=True, exist_ok=True)
    for part, items in task.read(args.data).items():
        if part.startswith("test") and task.most_tests:
            items = shuffled(items)[:task.most_tests]
        if part == "valid":
            items = items[::max(1, len(items) // 500)]  # about 500, of all kinds
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
        print(f"{folder / part}.jsonl: {len(items)}")


def base_model(task, kind, args):
    """The model as this type; made once."""
    original = subprocess.run([sys.executable, ROOT / "tools/fetch_model.py", task.model], check=True, text=True, capture_output=True)
    path = args.out / f"{task.model}-{kind}.gguf"
    if not path.exists():
        method = ["--method", "gptq"] if kind == "T3" else []
        run(PROGRAM, "dequantize" if kind == "F32" else "quantize", ROOT / original.stdout.strip(), "-o", path, "--type", kind, *method)
    return path


def run_row(task, row, args):
    folder, (kind, flags) = args.out / args.task, ROWS[row]
    base, taught, model, adapter = base_model(task, kind, args), folder / row, None, []
    if flags is not None:
        summary, counted = taught / "summary.json", flags is PEFT or "--epochs" not in flags
        if summary.exists() and counted:
            steps = json.loads(summary.read_text())["steps"]
            if steps != args.max_steps:
                sys.exit(f"{taught} was trained for {steps} steps, not {args.max_steps}: remove it, or give another --out")
        if not summary.exists():
            checkpoints = sorted(taught.glob("checkpoint-*[0-9]"), key=lambda path: int(path.name.split("-")[1]))
            resume = ["--resume", checkpoints[-1]] if checkpoints else []
            steps = ["--batch-size", task.batch_size, "--warmup-steps", 20]
            if flags is PEFT or "--learning-rate" not in flags:
                steps += ["--learning-rate", task.learning_rate]
            if counted:
                steps += ["--max-steps", args.max_steps]
            if args.compute and flags is not PEFT and "--compute" not in flags:
                steps += ["--compute", args.compute]
            if flags is PEFT:
                run(PEERS / "bin/python", ROOT / "tools/train_peft.py", base, folder / "train.jsonl", taught, *LORA, *steps)
            else:
                run(PROGRAM, "tune", base, "--data", folder / "train.jsonl", "--eval-data", folder / "valid.jsonl", "-o", taught,
                    "--save-steps", 100, *steps, *flags, *resume)
        model = taught / "model.gguf"
        adapter = [] if model.exists() else ["--adapter", taught]
    model = model if model and model.exists() else base
    compute = ["--compute", "f32"] if kind == "F32" else []
    for test in sorted(folder.glob("test*.jsonl")):
        record = folder / f"{row}.{test.stem}.json"
        if record.exists():
            continue
        general = ["--text", PROSE, "--reference", base, "--max-windows", 8] if test.stem == "test" else []
        name = row if test.stem == "test" else f"{row}, {test.stem.removeprefix('test_').replace('_', ' ')}"
        run(PROGRAM, "eval", model, *adapter, "--data", test, "-n", task.answer_tokens, "--name", name, "--json", record, *general, *compute)


def table(args):
    folder = args.out / args.task
    records = [folder / f"{row}.{test.stem}.json" for row in ROWS for test in sorted(folder.glob("test*.jsonl"))]
    run(PROGRAM, "compare", *(record for record in records if record.exists()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "run", "table"])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out/tasks")
    parser.add_argument("--max-steps", type=int, default=STEPS, help="of all rows but lora-epoch (default: %(default)s)")
    parser.add_argument("--compute", choices=["f32", "bf16", "int8"],
                        help="how the rows that do not say it themselves are trained (default: the program's, int8)")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    task = TASKS[args.task]
    if args.what == "table":
        return table(args)
    if not (args.out / args.task / "train.jsonl").exists() or args.what == "data":
        write_data(task, args)
    if args.what == "run":
        for row in args.rows or ROWS:
            run_row(task, row, args)


if __name__ == "__main__":
    main()
