#!/usr/bin/env python3
"""Write tests/golden/peft_train: what PEFT's methods make of tests/golden/models/llama in a few steps of training.

  <run>/          the adapter before the first step, as PEFT saves it
  golden.json     "batches" [step][sequence][token] and "runs": "learning_rate", and "losses" and "grad_norms" by step

PEFT has neither bottleneck adapters nor biases by themselves: those two are written here, in torch, as the papers describe them, and saved
under Thimble's names (docs/formats/peft.md). Where PEFT's PiSSA changes the base, ours has twice the rank: pissa/ is the first step's A and B
each beside itself, B once with the other sign.

Each sequence learns all its tokens but the first. AdamW without weight decay, in F32.

Needs: pip install -r tools/requirements-peers.txt (make peers). The committed files come from torch 2.13.0, transformers 5.23.0
and peft 0.21.2.
"""
import json
import os
import pathlib
import shutil

import torch
from peft import IA3Config, LNTuningConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, VeraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "tests/golden/models/llama"
OUT = ROOT / "tests/golden/peft_train"
RATE, STEPS = 2e-2, 8
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = lambda **more: LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, lora_alpha=3, target_modules=LINEAR, **more)
CONFIGS = {
    "loraplus": lora(),
    "pissa": lora(init_lora_weights="pissa"),
    "dora": lora(use_dora=True),
    "vera": VeraConfig(task_type=TaskType.CAUSAL_LM, r=6, target_modules=LINEAR),
    "ia3": IA3Config(task_type=TaskType.CAUSAL_LM, target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "bottleneck": None,
    "bitfit": None,
    "norm-tuning": LNTuningConfig(task_type=TaskType.CAUSAL_LM, target_modules=["input_layernorm", "post_attention_layernorm", "norm"]),
    "prompt-tuning": PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3),
    "prefix-tuning": PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3),
}


def batches():
    """Each token is the one before plus a step that the sequence keeps."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda n: int(torch.randint(n, (1,), generator=generator))
    rows = lambda: [(first + step * i) % 272 for first, step in [(draw(272), 1 + draw(3))] for i in range(12)]
    return [[rows() for _ in range(4)] for _ in range(STEPS)]


class Bottleneck(torch.nn.Module):
    """y + U relu(D y + d) + u, after a linear layer."""

    def __init__(self, linear, size):
        super().__init__()
        self.linear = linear
        self.adapter_down = torch.nn.Linear(linear.out_features, size)
        self.adapter_up = torch.nn.Linear(size, linear.out_features)
        torch.nn.init.normal_(self.adapter_up.weight, std=0.02)

    def forward(self, x):
        y = self.linear(x)
        return y + self.adapter_up(torch.relu(self.adapter_down(y)))


def own_method(name, model):
    """The model with what is trained, and its tensors by name."""
    model.requires_grad_(False)
    tensors = {}
    for path, module in list(model.named_modules()):
        last = path.rpartition(".")[2]
        prefix = f"base_model.model.{path}."
        if name == "bitfit" and last in LINEAR:
            module.bias = torch.nn.Parameter(torch.zeros(module.out_features))
            tensors[prefix + "bias"] = module.bias
        if name == "bottleneck" and last in ("o_proj", "down_proj"):
            wrapped = Bottleneck(module, 4)
            setattr(model.get_submodule(path.rpartition(".")[0]), last, wrapped)
            tensors.update({prefix + k: p for k, p in wrapped.named_parameters() if k.startswith("adapter")})
    config = dict(peft_type=name.upper(), target_modules=LINEAR if name == "bitfit" else ["o_proj", "down_proj"])
    folder = OUT / name
    folder.mkdir()
    save_file({k: p.detach().clone() for k, p in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return model


def double(folder):
    """A LoRA folder with [A; A] and [B, -B]: nothing, in twice the rank."""
    tensors = load_file(folder / "adapter_model.safetensors")
    doubled = {k: torch.cat([v, v]) if ".lora_A." in k else torch.cat([v, -v], dim=1) for k, v in tensors.items()}
    save_file(doubled, folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= dict(r=2 * config["r"], lora_alpha=2 * config["lora_alpha"], init_lora_weights=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def run(name, config, data):
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    if config is None:
        model = own_method(name, model)
    else:
        model = get_peft_model(model, config)
        model.save_pretrained(OUT / name)
        if name == "pissa":
            double(OUT / name)
    return steps(model, data, RATE, loraplus=name == "loraplus")


def full(name, data):
    """Every number trained, at a rate at which differences of rounding stay small."""
    return steps(AutoModelForCausalLM.from_pretrained(f"tests/golden/models/{name}", dtype=torch.float32), data, RATE / 20)


def steps(model, data, rate, loraplus=False):
    trained = [p for p in model.parameters() if p.requires_grad]
    if loraplus:
        optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=4, weight_decay=0.0)
    else:
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
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
    return dict(learning_rate=rate, losses=losses, grad_norms=norms)


def main():
    os.chdir(ROOT)  # the saved folders name the model
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    data = batches()
    runs = {name: run(name, config, data) for name, config in CONFIGS.items()}
    runs |= {f"full-{name}": full(name, data) for name in ("llama", "llama_bias_tied", "gemma3_text")}
    for readme in OUT.glob("*/README.md"):
        readme.unlink()
    lines = ",\n".join(f'"{name}": {json.dumps(r)}' for name, r in runs.items())
    (OUT / "golden.json").write_text('{"batches": %s, "runs": {\n%s\n}}\n' % (json.dumps(data), lines))


if __name__ == "__main__":
    main()
