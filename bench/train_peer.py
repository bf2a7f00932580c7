#!/usr/bin/env python3
"""The speed of a LoRA training step in PyTorch and PEFT on the CPU, in F32 or with --bf16 or --compile: all linear layers,
AdamW, every token learned. Prints one JSON object: tokens_per_second (median of the steps after the warm-up), peak_rss_bytes, the losses.

MODEL: a Hugging Face folder, or a GGUF, which Transformers dequantizes to F32 (for that the memory's peak includes the
loading; give a folder for a fair figure: tools/reference_model.py makes one).

Needs: pip install torch transformers peft gguf
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--seq-length", type=int, default=256)
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--warmup", type=int, default=1)
parser.add_argument("--bf16", action="store_true", help="autocast to BF16")
parser.add_argument("--compile", action="store_true", help="through torch.compile")
parser.add_argument("--data", type=pathlib.Path, help='JSONL of {"text"}, each cut at --seq-length; default: random ids')


def batches(args, vocab_size):
    import torch

    n = (args.warmup + args.steps) * args.batch_size
    if args.data:
        import reference_model

        tokenizer = reference_model.load_tokenizer(args.model)
        texts = [json.loads(line)["text"] for line in args.data.read_text().splitlines()][:n]
        rows = [tokenizer(t, add_special_tokens=False)["input_ids"][:args.seq_length] for t in texts]
        if len(rows) < n or min(map(len, rows)) < args.seq_length:
            sys.exit(f"{args.data}: needs {n} texts of at least {args.seq_length} tokens")
        ids = torch.tensor(rows)
    else:
        ids = torch.randint(0, vocab_size, (n, args.seq_length), generator=torch.Generator().manual_seed(0))
    return ids.view(-1, args.batch_size, args.seq_length)


def main():
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch starts its pool
    import torch
    from peft import LoraConfig, get_peft_model

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
    import reference_model

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = reference_model.load(args.model)
    model.config.use_cache = False
    data = batches(args, model.config.vocab_size)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=targets)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    run = torch.compile(model) if args.compile else model
    rates, losses = [], []
    for ids in data:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rates.append(ids.numel() / (time.perf_counter() - start))
        losses.append(loss.item())
    rates = rates[args.warmup:]
    print(json.dumps(dict(
        program="PyTorch + PEFT", model=str(args.model), threads=args.threads, batch_size=args.batch_size,
        seq_length=args.seq_length, rank=args.rank, tokens_per_second=round(statistics.median(rates), 2),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        repetitions=[round(r, 2) for r in rates], losses=[round(x, 4) for x in losses])))


if __name__ == "__main__":
    main()
