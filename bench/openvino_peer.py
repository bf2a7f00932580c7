#!/usr/bin/env python3
"""OpenVINO GenAI's speed on a GGUF, which it reads itself. Prints one JSON object: pp (tokens per second of a prompt of
about 512), tg (of 128 generated ones), peak_rss_bytes. Medians of 3, after one that isn't counted.

Needs: pip install openvino-genai==2026.4.1.0
"""
import json
import resource
import statistics
import sys

import numpy as np
import openvino as ov
import openvino_genai as genai

N_PROMPT, N_GEN = 512, 128

pipeline = genai.LLMPipeline(sys.argv[1], "CPU")
random = np.random.default_rng(0)


def generate(n_prompt, n_new):
    # New tokens each time: it keeps the prompts that it has read, and would read them no second time.
    tokens = ov.Tensor(random.integers(1000, 20000, (1, n_prompt)))
    inputs = genai.TokenizedInputs(tokens, ov.Tensor(np.ones((1, n_prompt), dtype=np.int64)))
    config = genai.GenerationConfig(max_new_tokens=n_new, min_new_tokens=n_new, ignore_eos=True, do_sample=False)
    return pipeline.generate(inputs, config).perf_metrics


prefill, decode = [], []
for _ in range(4):
    prefill.append(N_PROMPT / (generate(N_PROMPT, 1).get_ttft().mean / 1000))
    decode.append(1000 / generate(1, N_GEN).get_tpot().mean)
print(json.dumps(dict(pp=statistics.median(prefill[1:]), tg=statistics.median(decode[1:]),
                      peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))
