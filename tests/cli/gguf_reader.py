"""GGUF and safetensors files read with Python's standard library alone, so that what the program wrote is judged by
other code than its own. Not a test."""
import dataclasses
import json
import math
import struct

# gguf_metadata_value_type
TYPES = {0: ("UINT8", "B"), 1: ("INT8", "b"), 2: ("UINT16", "H"), 3: ("INT16", "h"), 4: ("UINT32", "I"), 5: ("INT32", "i"),
         6: ("FLOAT32", "f"), 7: ("BOOL", "?"), 8: ("STRING", None), 9: ("ARRAY", None), 10: ("UINT64", "Q"),
         11: ("INT64", "q"), 12: ("FLOAT64", "d")}
# ggml_type, and Thimble's own (docs/formats/native.md): name, weights per block, bytes per block
WEIGHTS = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
           7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
           12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18),
           23: ("IQ4_XS", 256, 136),
           16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 21: ("IQ3_S", 256, 110),
           22: ("IQ2_S", 256, 82), 30: ("BF16", 1, 2),
           60: ("T2", 64, 17), 61: ("T3", 64, 25), 62: ("T4", 64, 33), 63: ("T5", 64, 41)}


@dataclasses.dataclass
class Tensor:
    name: str
    type: str
    shape: list  # outermost first
    data: bytes


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        n = self.number("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        name, code = TYPES[kind]
        if name == "ARRAY":
            element = self.number("I")
            values = [self.value(element)[1] for _ in range(self.number("Q"))]
            return f"ARRAY/{TYPES[element][0]}", values
        return name, self.string() if name == "STRING" else self.number(code)


def read_gguf(path):
    """({key: (type, value)}, [Tensor])"""
    data = path.read_bytes()
    reader = _Reader(data)
    assert data[:4] == b"GGUF"
    reader.at = 4
    assert reader.number("I") == 3
    n_tensors, n_keys = reader.number("Q"), reader.number("Q")
    metadata = {}
    for _ in range(n_keys):
        key = reader.string()
        metadata[key] = reader.value(reader.number("I"))
    infos = []
    for _ in range(n_tensors):
        name = reader.string()
        shape = [reader.number("Q") for _ in range(reader.number("I"))][::-1]
        infos.append((name, shape, WEIGHTS[reader.number("I")], reader.number("Q")))
    base = (reader.at + 31) // 32 * 32
    tensors = []
    for name, shape, (type_name, block, block_bytes), offset in infos:
        row = shape[-1] if shape else 1
        half = (block_bytes + 1) // 2 if row % block else 0  # only T2 to T5 may end so
        size = math.prod(shape[:-1]) * (row // block * block_bytes + half)
        tensors.append(Tensor(name, type_name, shape, data[base + offset:base + offset + size]))
    return metadata, tensors


def mix_gguf(path, first, second, names):
    """Writes the GGUF file `first` with these tensors as `second` has them."""
    tensors = [b if a.name in names else a for a, b in zip(read_gguf(first)[1], read_gguf(second)[1], strict=True)]
    reader = _Reader(first.read_bytes())
    reader.at = 8
    reader.number("Q")
    for _ in range(reader.number("Q")):
        reader.string()
        reader.value(reader.number("I"))
    out, data, types = bytearray(reader.data[:reader.at]), bytearray(), {name: i for i, (name, _, _) in WEIGHTS.items()}
    for t in tensors:
        out += struct.pack("<Q", len(t.name)) + t.name.encode() + struct.pack("<I", len(t.shape))
        out += struct.pack(f"<{len(t.shape)}QIQ", *reversed(t.shape), types[t.type], len(data))
        data += t.data + bytes(-len(t.data) % 32)
    path.write_bytes(out + bytes(-len(out) % 32) + data)


def read_safetensors(folder):
    """{name: Tensor} of a folder's model.safetensors, or of its shards."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        length, = struct.unpack_from("<Q", data)
        for name, entry in json.loads(data[8:8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                out[name] = Tensor(name, entry["dtype"], entry["shape"], data[8 + length + begin:8 + length + end])
    return out


def write_safetensors(path, tensors):
    """tensors: {name: (shape, [floats])}, written as F32."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = dict(dtype="F32", shape=shape, data_offsets=[len(data), len(data) + len(packed)])
        data += packed
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
