#!/usr/bin/env python3
"""Make a stand-in for the float model that a quantized GGUF was made from.

  tools/make_continuous.py IN.gguf OUT.gguf

Every weight of a quantized matrix gets uniform noise of half a step of its block to each side, as rounding took it, and
is written as F16. The result is near what IN computes, but its weights lie on no type's grid: what quantizes it again
loses as much as it would on an original. (Of an original that cannot be had; not the original.) Seeded: the same file
every time.

Needs: pip install gguf==0.19.0 numpy
"""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

TYPE = GGMLQuantizationType


def six_bit_scales(blocks):
    """The scales of Q4_K and Q5_K (ggml-quants.c, get_scale_min_k4): 8 a block."""
    s = blocks[:, 4:16]
    return np.concatenate([s[:, :4] & 63, (s[:, 8:] & 15) | (s[:, :4] >> 6) << 4], axis=1)


def steps(blocks, kind):
    """[blocks, runs]: the distance between neighbouring points of each run of a block's weights."""
    def half(at):
        return np.abs(blocks[:, at:at + 2].copy().view(np.float16).astype(np.float32))
    if kind in (TYPE.Q4_0, TYPE.Q4_1, TYPE.Q5_0, TYPE.Q5_1, TYPE.Q8_0):
        return half(0)
    if kind in (TYPE.Q4_K, TYPE.Q5_K):
        return half(0) * six_bit_scales(blocks)
    if kind == TYPE.Q6_K:
        return half(208) * np.abs(blocks[:, 192:208].view(np.int8).astype(np.float32))
    sys.exit(f"weights of type {kind.name} are not supported")


def main():
    source, target = sys.argv[1:]
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "")
    writer.kv_data.clear()
    writer.kv_data.append({})
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.file_type":
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind,
                             field.types[-1] if kind == GGUFValueType.ARRAY else None)
    writer.add_file_type(1)
    rng = np.random.default_rng(7)
    for t in reader.tensors:
        if t.tensor_type in (TYPE.F32, TYPE.F16, TYPE.BF16):
            writer.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
            continue
        block_size, block_bytes = GGML_QUANT_SIZES[t.tensor_type]
        values = dequantize(t.data, t.tensor_type)
        step = steps(t.data.reshape(-1, block_bytes), t.tensor_type)
        noise = rng.uniform(-0.5, 0.5, (step.size, block_size * step.shape[0] // step.size)).astype(np.float32)
        noise *= step.reshape(-1, 1)
        writer.add_tensor(t.name, (values + noise.reshape(values.shape)).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
