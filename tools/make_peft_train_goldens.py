#!/usr/bin/env python3
"""Write tests/golden/peft_train: what PEFT's methods make of tests/golden/models/llama in a few steps of training.

  <run>/          the adapter before the first step, as PEFT saves it
  golden.json     "learning_rate", "batches" [step][sequence][token] and "runs": "losses" and "grad_norms" by step

Each sequence learns all its tokens but the first. AdamW without weight decay, in F32.

Needs: pip install -r tools/requirements-peers.txt (make peers). The committed files come from torch 2.13.0, transformers 5.23.0
and peft 0.21.2.
"""
import json
import os
import pathlib
import shutil

import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "tests/golden/models/llama"
OUT = ROOT / "tests/golden/peft_train"
RATE, STEPS = 2e-2, 8
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = lambda **more: LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, lora_alpha=3, target_modules=LINEAR, **more)
CONFIGS = {
    "loraplus": lora(),
    "dora": lora(use_dora=True),
    "ia3": IA3Config(task_type=TaskType.CAUSAL_LM, target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "prompt-tuning": PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3),
    "prefix-tuning": PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3),
}


def batches():
    """Each token is the one before plus a step that the sequence keeps."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda n: int(torch.randint(n, (1,), generator=generator))
    rows = lambda: [(first + step * i) % 272 for first, step in [(draw(272), 1 + draw(3))] for i in range(12)]
    return [[rows() for _ in range(4)] for _ in range(STEPS)]


def run(name, config, data):
    torch.manual_seed(7)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32), config)
    model.save_pretrained(OUT / name)
    trained = [p for p in model.parameters() if p.requires_grad]
    if name == "loraplus":
        optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=4, weight_decay=0.0)
    else:
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    losses, norms = [], []
    for batch in data:
        ids = torch.tensor(batch)
        labels = ids.clone()
        labels[:, 0] = -100
        loss = model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids)).loss
        loss.backward()
        norms.append(torch.sqrt(sum((p.grad.double() ** 2).sum() for p in trained)).item())
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return dict(losses=losses, grad_norms=norms)


def main():
    os.chdir(ROOT)  # the saved folders name the model
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    data = batches()
    runs = {name: run(name, config, data) for name, config in CONFIGS.items()}
    for readme in OUT.glob("*/README.md"):
        readme.unlink()
    lines = ",\n".join(f'"{name}": {json.dumps(r)}' for name, r in runs.items())
    (OUT / "golden.json").write_text('{"learning_rate": %g, "batches": %s, "runs": {\n%s\n}}\n' % (RATE, json.dumps(data), lines))


if __name__ == "__main__":
    main()
