#!/usr/bin/env python3
"""A model as Transformers sees it, from a Hugging Face folder or from a GGUF (dequantized to F32 by Transformers itself).

  reference_model.py MODEL.gguf OUT-DIR        writes the F32 folder, for comparing with our own conversion

Other scripts here import load() and load_tokenizer(). Needs: pip install torch transformers gguf safetensors
"""
import argparse
import pathlib

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(path, **options):
    """F32, in eval mode."""
    transformers.utils.logging.disable_progress_bar()
    path = pathlib.Path(path)
    if path.is_dir():
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options).eval()
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **options)
    if hasattr(model.config, "quantization_config"):  # the weights are plain F32 now, and may be saved and trained
        del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None
    return model.float().eval()


def load_tokenizer(path):
    path = pathlib.Path(path)
    if path.is_dir():
        return AutoTokenizer.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    import gguf  # not needed for folders
    pre = gguf.GGUFReader(path).get_field("tokenizer.ggml.pre")
    if pre is not None and pre.contents() == "smollm":  # splits digits, which Transformers leaves out of a GGUF's tokenizer
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer


def logits(model, ids):
    """Float32 [len(ids), vocabulary] of one sequence."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    load(args.gguf).save_pretrained(args.out)
    load_tokenizer(args.gguf).save_pretrained(args.out)
    for weights in args.out.glob("*.safetensors"):
        weights.chmod(0o644)


if __name__ == "__main__":
    main()
