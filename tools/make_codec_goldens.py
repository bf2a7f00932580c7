#!/usr/bin/env python3
"""Record gguf-py's dequantization of random blocks of every weight type, and native_types.py's of Thimble's own.

tests/golden/codec/<type>.bin: the blocks' bytes, then the weights as little-endian float32. The scales cover F16's
whole range (zeros, subnormals, the largest, both signs), but not infinity and NaN, whose products differ in NaN bits.
T2 to T5 have every exponent of their scales, from the smallest scale to the largest.

Needs: pip install gguf==0.19.0 numpy
"""
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import native_types  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where each block has its F16 scales and minimums.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
          "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0]}
EXTREMES = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff], np.uint16)


def random_halves(rng, n):
    halves = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    halves[halves & 0x7c00 == 0x7c00] &= 0xbfff  # no infinity, no NaN
    special = rng.random(n) < 0.3
    halves[special] = rng.choice(EXTREMES, special.sum())
    return halves


def main():
    out = ROOT / "tests/golden/codec"
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20260101)
    for name in ["F16", "BF16", *HALVES]:
        block_size, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        n = 2048 // block_size
        if name in HALVES:
            blocks = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
            for offset in HALVES[name]:
                blocks[:, offset:offset + 2] = random_halves(rng, n).view(np.uint8).reshape(n, 2)
        else:
            blocks = random_halves(rng, n).view(np.uint8).reshape(n, 2)
        data = blocks.reshape(-1) if name == "F16" else blocks
        weights = np.asarray(dequantize(data, GGMLQuantizationType[name]), np.float32)
        (out / f"{name}.bin").write_bytes(blocks.tobytes() + weights.astype("<f4").tobytes())
    for name in native_types.CODES:
        n = 2048 // native_types.BLOCK
        blocks = rng.integers(0, 256, (n, native_types.row_bytes(name, native_types.BLOCK)), dtype=np.uint8)
        blocks[:, 0] = rng.permutation(np.linspace(0, 255, n).astype(np.uint8))
        weights = native_types.dequantize(blocks.tobytes(), name, 1, 2048)
        (out / f"{name}.bin").write_bytes(blocks.tobytes() + weights.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
