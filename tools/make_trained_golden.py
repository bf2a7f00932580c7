#!/usr/bin/env python3
"""Train the model of one layer that choices of types are checked on (tests/cli/fit_test.py): tests/golden/trained/.

  tools/make_trained_golden.py

A random model's predictions say little about which matrix matters: this one has read Thimble's English calibration text,
byte by byte, for some seconds. Its tokenizer is that of tests/golden/models/llama_bias_tied.

Needs: tools/setup_peers.sh. The committed files come from torch 2.13.0, transformers 5.23.0.
"""
import json
import os
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "bench/peers/venv/bin/python"
if VENV.exists() and pathlib.Path(sys.prefix) != VENV.parent.parent:
    os.execv(VENV, [str(VENV), *sys.argv])

import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

SOURCE, OUT = ROOT / "tests/golden/models/llama_bias_tied", ROOT / "tests/golden/trained"
STEPS, BATCH, LENGTH, RATE = 800, 16, 128, 1e-2


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = json.loads((SOURCE / "config.json").read_text())
    model = LlamaForCausalLM(LlamaConfig(**{**config, "num_hidden_layers": 1, "max_position_embeddings": 512,
                                            "initializer_range": 0.05}))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(SOURCE / "tokenizer.json"))
    text = (ROOT / "quant/calibration_text/english.txt").read_text()
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        batch = torch.stack([ids[i:i + LENGTH] for i in torch.randint(0, len(ids) - LENGTH, (BATCH,))])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(OUT)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SOURCE / name, OUT / name)


if __name__ == "__main__":
    main()
