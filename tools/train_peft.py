#!/usr/bin/env python3
"""LoRA by PyTorch and PEFT on the data of thimble tune, to compare scores at the same steps: all linear layers, AdamW, a cosine
after the warm-up, F32 on the CPU. Writes OUT as PEFT does, and the summary.json that thimble tune writes.

  train_peft.py MODEL DATA.jsonl OUT [--max-steps N]     lines of {"prompt", "completion"}; MODEL as reference_model.py reads it

Needs: make peers (tools/setup_peers.sh).
"""
import argparse
import json
import math
import os
import pathlib
import random
import resource
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--rank", type=int, default=8)
parser.add_argument("--lora-alpha", type=float, default=16)
parser.add_argument("--learning-rate", type=float, default=2e-3)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--warmup-steps", type=int, default=20)
parser.add_argument("--epochs", type=float, default=1)
parser.add_argument("--max-steps", type=int)


def read_examples(args):
    """Token ids, and which of them are learned: the completion and the end of the sequence, as thimble tune learns them."""
    import reference_model

    tokenizer = reference_model.load_tokenizer(args.model)
    examples = []
    for line in args.data.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        prompt = tokenizer(pair["prompt"]).input_ids
        answer = tokenizer(pair["completion"], add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
        examples.append((prompt + answer, [-100] * len(prompt) + answer))
    return examples


def main():
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch starts its pool
    import torch
    from peft import LoraConfig, get_peft_model

    import reference_model

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = reference_model.load(args.model)
    model.config.use_cache = False
    examples = read_examples(args)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=args.lora_alpha, target_modules=targets)).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    n_steps = args.max_steps or round(args.epochs * math.ceil(len(examples) / args.batch_size))
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=0)

    def factor(step):
        if step < args.warmup_steps:
            return step / args.warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - args.warmup_steps) / max(1, n_steps - args.warmup_steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    order, tokens, start = [], 0, time.perf_counter()
    for step in range(n_steps):
        if len(order) < args.batch_size:
            order += random.Random(step).sample(range(len(examples)), len(examples))
        batch, order = [examples[i] for i in order[:args.batch_size]], order[args.batch_size:]
        longest = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in batch])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row, _ in batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        tokens += int(mask.sum())
        if step % 10 == 9:
            print(f"step {step + 1} of {n_steps}: loss {loss.item():.4f}, {tokens / (time.perf_counter() - start):.0f} tokens/s", file=sys.stderr,
                  flush=True)
    seconds = time.perf_counter() - start
    model.save_pretrained(args.out)
    (args.out / "summary.json").write_text(json.dumps(dict(
        method="lora by PEFT", base=str(args.model), compute="f32", n_parameters=sum(p.numel() for p in parameters),
        saved_bytes=(args.out / "adapter_model.safetensors").stat().st_size, steps=n_steps, tokens=tokens, seconds=seconds,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024), indent=2) + "\n")


if __name__ == "__main__":
    main()
