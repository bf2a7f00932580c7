#!/usr/bin/env python3
"""Read Thimble's own weight types, T2 to T5, as docs/formats/native.md describes them.

  native_types.py FILE.gguf
      lists the tensors: name, type, shape (columns last), bits per weight
  native_types.py FILE.gguf --tensor NAME --out FILE.npy
      writes one tensor as float32 (T2 to T5, F32, F16, BF16)

Written from that page, not from the C++ code, so that each checks the other. As a module: row_bytes, dequantize,
read_gguf.

Needs: pip install numpy
"""
import argparse
import math
import os
import struct
import sys

import numpy as np

BLOCK, RING = 64, 32  # weights
# Type: bits per weight, bits from a window's own nibble to its next one, the nibbles' tables.
CODES = {
    "T2": (2, 4, [-34, -3, 38, 8, 31, -12, -2, -54, -19, 9, -51, 47, -27, 16, 57, -1],
           [-8, 69, 31, -39, 14, 22, -71, 6, 43, -9, -13, 2, -44, -41, -18, 48]),
    "T3": (3, 6, [31, 12, 9, -43, -7, -1, -25, 53, -21, 13, -8, -6, -56, -36, 24, 41],
           [-10, 63, -31, 34, 46, -1, 22, 27, 2, -13, -62, 14, -13, -28, 13, -42]),
    "T4": (4, 4, [-32, -82, 60, 31, -6, 23, 49, -14, 90, -23, 16, 40, -43, 1, -55, 9],
           [3, 11, 2, -34, -4, -23, -9, 18, -20, -41, 10, 23, -25, 36, -11, -15]),
    "T5": (5, 4, [28, -17, -56, 62, 22, -45, 16, -1, -6, -34, 11, 33, -28, 5, -22, -39],
           [26, -15, 7, 32, -20, 0, 5, -9, 20, -39, -64, -5, 57, 11, 15, 40]),
}
# GGUF's types by number: name, weights per block, bytes. A row of T2 to T5 is counted in half blocks (row_bytes).
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
         7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
         12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
         17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18),
         21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1),
         25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
         30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
         60: ("T2", 64, 17), 61: ("T3", 64, 25), 62: ("T4", 64, 33), 63: ("T5", 64, 41)}
SIZES = {name: (weights, n_bytes) for name, weights, n_bytes in TYPES.values()}
# GGUF's value types by number; 8 is a string, 9 an array.
SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9


def row_bytes(name, n):
    """Bytes of a row of n weights of the type."""
    weights, n_bytes = SIZES[name]
    if name in CODES and n % BLOCK == RING:
        return n // BLOCK * n_bytes + 1 + 4 * CODES[name][0]
    if n % weights:
        raise ValueError(f"a row of {n} weights is no whole number of {name}'s blocks")
    return n // weights * n_bytes


def ring_sums(name, rings):
    """The integers of rings, uint8 [..., 4 * bits], in the order of their columns: int16 [..., 32]."""
    bits, ahead, own, next_ = CODES[name]
    string = np.unpackbits(rings, axis=-1, bitorder="little")
    s = np.arange(RING)
    nibble = (bits * s[:, None] + np.arange(4)) % (bits * RING)
    values = [np.array(table, np.int16)[np.packbits(string[..., at], axis=-1, bitorder="little")[..., 0]]
              for table, at in ((own, nibble), (next_, (nibble + ahead) % (bits * RING)))]
    sums = np.empty(rings.shape[:-1] + (RING,), np.int16)
    sums[..., 4 * (s % 8) + s // 8] = values[0] + values[1]
    return sums


def scale_of(codes):
    """Scale bytes as float32: 4 bits of exponent above 4 of mantissa."""
    codes = codes.astype(np.int32)
    return np.ldexp((16 + codes % 16).astype(np.float32), codes // 16 - 22)


def dequantize(data, name, n_rows, n_cols):
    """A tensor's bytes as float32 [n_rows, n_cols]."""
    size = row_bytes(name, n_cols)
    rows = np.frombuffer(data, np.uint8)
    if rows.size != n_rows * size:
        raise ValueError(f"{n_rows} rows of {n_cols} weights of {name} are {n_rows * size} bytes, not {rows.size}")
    rows = rows.reshape(n_rows, size)
    if name == "BF16":
        return (rows.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if name in ("F32", "F16"):
        return rows.view("<f4" if name == "F32" else "<f2").astype(np.float32)
    if name not in CODES:
        raise ValueError(f"{name} is not one of Thimble's types; gguf-py reads it")
    n_blocks, block_bytes, ring_bytes = n_cols // BLOCK, SIZES[name][1], 4 * CODES[name][0]
    out = np.empty((n_rows, n_cols // RING, RING), np.float32)
    step = max(1, (1 << 20) // max(n_cols, 1))  # rows at once: bits take a byte each here
    for i in range(0, n_rows, step):
        part = rows[i:i + step]
        blocks = part[:, :n_blocks * block_bytes].reshape(len(part), n_blocks, block_bytes)
        scales = np.repeat(blocks[..., 0], 2, axis=1)
        rings = blocks[..., 1:].reshape(len(part), 2 * n_blocks, ring_bytes)
        if n_cols % BLOCK:
            half = part[:, n_blocks * block_bytes:]
            scales = np.concatenate([scales, half[:, :1]], axis=1)
            rings = np.concatenate([rings, half[:, None, 1:]], axis=1)
        out[i:i + step] = scale_of(scales)[..., None] * ring_sums(name, rings).astype(np.float32)
    return out.reshape(n_rows, n_cols)


class Reader:
    """Fields of a GGUF file's header in order."""

    def __init__(self, file):
        self.file, self.size = file, os.fstat(file.fileno()).st_size

    def bytes(self, n):
        if n > self.size - self.file.tell():
            raise ValueError(f"the file ends inside the header, at byte {self.size} (is it truncated?)")
        return self.file.read(n)

    def number(self, format_):
        return struct.unpack("<" + format_, self.bytes(struct.calcsize("<" + format_)))[0]

    def string(self):
        return self.bytes(self.number("Q")).decode("utf-8", "replace")

    def value(self, type_, count=None):
        """One value, or an array of `count`."""
        if type_ == STRING:
            return self.string() if count is None else [self.string() for _ in range(count)]
        if type_ == ARRAY and count is None:
            return self.value(self.number("I"), self.number("Q"))
        if type_ not in SCALARS:
            raise ValueError("an array of arrays" if type_ == ARRAY else f"the metadata value type {type_} is unknown")
        dtype = np.dtype(SCALARS[type_])
        values = np.frombuffer(self.bytes(dtype.itemsize * (1 if count is None else count)), dtype)
        return values[0].item() if count is None else values


def read_gguf(path):
    """(metadata, tensors): name -> (type's name, shape with columns last, offset in the file, bytes)."""
    with open(path, "rb") as file:
        reader = Reader(file)
        if reader.bytes(4) != b"GGUF":
            raise ValueError("this is not a GGUF file")
        version = reader.number("I")
        if version not in (2, 3):
            raise ValueError(f"GGUF version {version} is not supported (2 and 3 are, little-endian)")
        n_tensors, n_keys = reader.number("Q"), reader.number("Q")
        metadata = {}
        for _ in range(n_keys):
            key = reader.string()
            metadata[key] = reader.value(reader.number("I"))
        infos = []
        for _ in range(n_tensors):
            name, n_dims = reader.string(), reader.number("I")
            if n_dims > 4:
                raise ValueError(f"tensor '{name}' has {n_dims} dimensions")
            shape = tuple(reader.number("Q") for _ in range(n_dims))[::-1]  # the file has the columns first
            if 0 in shape:
                raise ValueError(f"tensor '{name}' has a dimension of 0")
            infos.append((name, shape, reader.number("I"), reader.number("Q")))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment}")
        start = -(-file.tell() // alignment) * alignment
    tensors = {}
    for name, shape, number, offset in infos:
        if number not in TYPES:
            raise ValueError(f"tensor '{name}' has the unknown type {number}")
        kind = TYPES[number][0]
        n_bytes = math.prod(shape[:-1]) * row_bytes(kind, shape[-1] if shape else 1)
        if start + offset + n_bytes > reader.size:
            raise ValueError(f"tensor '{name}' needs {n_bytes} bytes at byte {start + offset}, but the file ends at "
                             f"byte {reader.size} (is it truncated?)")
        tensors[name] = (kind, shape, start + offset, n_bytes)
    return metadata, tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--tensor", metavar="NAME")
    parser.add_argument("--out", metavar="FILE.npy")
    args = parser.parse_args()
    if bool(args.tensor) != bool(args.out):
        parser.error("--tensor and --out belong together")
    try:
        _, tensors = read_gguf(args.file)
        if not args.tensor:
            for name, (kind, shape, _, n_bytes) in tensors.items():
                print(f"{name}  {kind}  {' x '.join(map(str, shape))}  {8 * n_bytes / math.prod(shape):.4g}")
            return
        if args.tensor not in tensors:
            raise ValueError(f"there is no tensor '{args.tensor}'")
        kind, shape, offset, n_bytes = tensors[args.tensor]
        with open(args.file, "rb") as file:
            file.seek(offset)
            data = file.read(n_bytes)
        columns = shape[-1] if shape else 1
        np.save(args.out, dequantize(data, kind, math.prod(shape[:-1]), columns).reshape(shape))
    except (OSError, ValueError) as error:
        sys.exit(f"native_types.py: {args.file}: {error}")


if __name__ == "__main__":
    main()
