#!/usr/bin/env python3
"""Write tests/golden/train.json: what torch.optim.AdamW and Adafactor, and Transformers' learning-rate schedules compute.

  adamw[]: "lr", "betas", "eps", "weight_decay", "start" and, for each step, "gradients" and "parameters" after it
  adafactor[]: the same with "shape"
  schedules[]: "name", "warmup", "total", and "factors": the factor on the learning rate at steps 0 .. total

Needs: pip install torch transformers. The committed file comes from torch 2.13.0, transformers 5.23.0.
"""
import json
import pathlib

import torch
from transformers import get_scheduler

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/train.json"


def adamw(lr, betas, eps, weight_decay, seed, n=6, steps=8):
    generator = torch.Generator().manual_seed(seed)
    parameter = torch.nn.Parameter(torch.randn(n, generator=generator))
    out = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, start=parameter.tolist(), steps=[])
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    for step in range(steps):
        # gradients of very different sizes, and one that is always 0
        gradient = torch.randn(n, generator=generator) * torch.tensor([1, 1e-3, 1e-8, 10, 0, 1])
        parameter.grad = gradient
        optimizer.step()
        out["steps"].append(dict(gradients=gradient.tolist(), parameters=parameter.tolist()))
    return out


def adafactor(lr, weight_decay, shape, seed, steps=6):
    generator = torch.Generator().manual_seed(seed)
    size = shape if shape[0] > 1 else shape[1:]  # a vector is not factored
    parameter = torch.nn.Parameter(torch.randn(size, generator=generator))
    out = dict(lr=lr, weight_decay=weight_decay, shape=shape, start=parameter.flatten().tolist(), steps=[])
    optimizer = torch.optim.Adafactor([parameter], lr=lr, weight_decay=weight_decay)
    for _ in range(steps):
        parameter.grad = torch.randn(size, generator=generator) * torch.logspace(-3, 1, shape[1])
        gradient = parameter.grad.flatten().tolist()
        optimizer.step()
        out["steps"].append(dict(gradients=gradient, parameters=parameter.flatten().tolist()))
    return out


def schedule(name, warmup, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    hf = {"constant": "constant_with_warmup"}.get(name, name)
    scheduler = get_scheduler(hf, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    factors = []
    for _ in range(total + 1):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return dict(name=name, warmup=warmup, total=total, factors=factors)


def main():
    runs = [adamw(1e-2, (0.9, 0.999), 1e-8, 0.0, 1), adamw(1e-2, (0.9, 0.999), 1e-8, 0.1, 2),
            adamw(3e-4, (0.8, 0.95), 1e-6, 0.01, 3)]
    schedules = [schedule(name, warmup, total) for name in ("constant", "linear", "cosine")
                 for warmup, total in ((0, 10), (3, 12), (5, 5), (1, 1))]
    factored = [adafactor(1e-2, 0.0, (3, 4), 4), adafactor(3e-2, 0.1, (2, 5), 5), adafactor(1e-2, 0.0, (1, 6), 6)]
    lines = [",\n".join(map(json.dumps, part)) for part in (runs, factored, schedules)]
    OUT.write_text('{"adamw": [\n%s\n], "adafactor": [\n%s\n], "schedules": [\n%s\n]}\n' % tuple(lines))


if __name__ == "__main__":
    main()
