#!/usr/bin/env python3
"""Write tests/golden/tasks/smollm2.json: the log-likelihoods of the choices of choices.jsonl, by Transformers in F32.

  make_task_goldens.py models/SmolLM2-135M-Instruct.Q4_1.gguf

Query and choice are put together as lm-evaluation-harness does (lm_eval/api/model.py, TemplateLM._encode_pair; acc and
acc_norm as in lm_eval/api/task.py, with the byte length of a choice). An empty query becomes BOS.

Needs: pip install torch transformers gguf. The committed file comes from torch 2.13.0, transformers 5.23.0.
"""
import argparse
import json
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import reference_model  # noqa: E402

TASKS = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tasks"


def first(item, *keys):
    return next(item[key] for key in keys if key in item)


def encode_pair(tokenizer, context, continuation):
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    if not context:
        return [tokenizer.bos_token_id], tokenizer.encode(continuation, add_special_tokens=False)
    whole = tokenizer.encode(context + continuation)
    context = tokenizer.encode(context)
    return context, whole[len(context):]


def log_likelihood(model, context, continuation):
    logits = torch.from_numpy(reference_model.logits(model, context + continuation)).double()
    log_p = torch.log_softmax(logits, -1)
    return sum(log_p[len(context) + i - 1, token].item() for i, token in enumerate(continuation))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=pathlib.Path)
    args = parser.parse_args()
    tokenizer = reference_model.load_tokenizer(args.gguf)
    model = reference_model.load(args.gguf)
    items = []
    for line in (TASKS / "choices.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        choices = first(item, "choices", "endings")
        scores = [log_likelihood(model, *encode_pair(tokenizer, first(item, "query", "question", "ctx"), " " + choice))
                  for choice in choices]
        per_byte = [score / len(choice.encode()) for score, choice in zip(scores, choices)]
        items.append(dict(log_likelihoods=[round(score, 5) for score in scores], acc=scores.index(max(scores)),
                          acc_norm=per_byte.index(max(per_byte))))
    (TASKS / "smollm2.json").write_text(json.dumps(items, indent=1) + "\n")


if __name__ == "__main__":
    main()
