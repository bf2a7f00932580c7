#!/usr/bin/env python3
"""Write tiny checkpoints that GPTQ, AWQ and compressed-tensors packed, and what their own libraries read from them.

tests/golden/import/matrices/NAME: config.json and model.safetensors of one module, and expected.safetensors, its weight
as the library dequantizes it. tests/golden/import/models/NAME: a model of tests/golden/models with its projections
quantized, and expected.json: "ids", and the "top10" logits that Transformers computes after them from the weights that
the library dequantizes in F32.

Packed by AutoGPTQ (v1; v2 by it too, with zeros of one more), AutoAWQ and compressed-tensors; read back by GPTQModel,
AutoAWQ and compressed-tensors. AutoGPTQ's forward of the identity must give the same where it can.

Needs: pip install torch transformers safetensors loguru compressed-tensors==0.13.0 (the last line that reads
weight_g_idx), and under --sources the unpacked packages auto_gptq 0.7.1 (its wheel), autoawq-0.2.9 and gptqmodel-7.7.0
(pip download --no-deps, then unzip and tar xf): only the files named below are imported, without all that they need.
The committed files come from torch 2.13.0, transformers 5.23.0; the matrices that compressed-tensors 0.20.0 can read
(all but ct_4bit_g_idx) are the same to it.
"""
import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import types

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODULE = "model.layers.0.mlp.down_proj"
N_OUT, N_IN = 32, 96


def import_bare(sources):
    """The libraries' packing code, without their packages' __init__.py."""
    def bare(name, path):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(path)]

    class Anything(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *args, **kwargs: Anything("x")

        def __iter__(self):
            return iter(())

    gptqmodel = sources / "gptqmodel-7.7.0/gptqmodel"
    bare("auto_gptq", sources / "auto_gptq")
    bare("awq", sources / "autoawq-0.2.9/awq")
    bare("gptqmodel", gptqmodel)
    for folder in ["utils", "quantization"]:
        bare(f"gptqmodel.{folder}", gptqmodel / folder)
    for name in ["gptqmodel.quantization.dtype", "gptqmodel.utils.logger"]:  # nothing that is used here
        sys.modules[name] = Anything(name)
    from auto_gptq.nn_modules.qlinear.qlinear_cuda import QuantLinear
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.utils.packing_utils import dequantize_gemm
    from gptqmodel.utils.model_dequant import convert_gptq_file
    return types.SimpleNamespace(QuantLinear=QuantLinear, WQLinear=WQLinear_GEMM, dequantize_gemm=dequantize_gemm,
                                 convert_gptq_file=convert_gptq_file)


def fit(weight, bits, groups, symmetric, dtype, least_zero):
    """Scales and zeros [n_out, n_groups], and the weight moved onto their grid. Column j belongs to groups[j]."""
    n_groups, levels = int(groups.max()) + 1, 2**bits - 1
    scales, zeros = torch.empty(weight.shape[0], n_groups), torch.empty(weight.shape[0], n_groups)
    for g in range(n_groups):
        part = weight[:, groups == g]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            scales[:, g], zeros[:, g] = torch.maximum(-low, high) / max(1, levels // 2), 2 ** (bits - 1)
        else:
            scales[:, g] = (high - low) / levels
            zeros[:, g] = torch.round(-low / scales[:, g]).clamp(least_zero, levels)
    scales = scales.to(dtype).float()
    s, z = scales[:, groups], zeros[:, groups]
    codes = (torch.round(weight / s) + z).clamp(0, levels)
    return scales, zeros, (codes - z) * s


def linear(weight):
    out = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    out.weight.data = weight.clone()
    return out


def in_order(n_in, group_size):
    return torch.arange(n_in) // (n_in if group_size == -1 else group_size)


def shuffled(n_in, group_size):
    return in_order(n_in, group_size)[torch.randperm(n_in)]


class Gptq:
    def __init__(self, lib, bits=4, group_size=32, sym=True, desc_act=False, v2=False):
        self.lib, self.bits, self.group_size = lib, bits, group_size
        self.sym, self.desc_act, self.v2 = sym, desc_act, v2

    def config(self):
        return dict(quant_method="gptq", bits=self.bits, group_size=self.group_size, sym=self.sym,
                    desc_act=self.desc_act, checkpoint_format="gptq_v2" if self.v2 else "gptq")

    def pack(self, weight, desc_act=None):
        n_out, n_in = weight.shape
        act = self.desc_act if desc_act is None else desc_act
        groups = (shuffled if act else in_order)(n_in, self.group_size)
        # AutoGPTQ cannot store a zero of 0: v1 keeps zero - 1 without a sign.
        scales, zeros, weight = fit(weight, self.bits, groups, self.sym, torch.float16, 0 if self.v2 else 1)
        module = self.lib.QuantLinear(self.bits, self.group_size, n_in, n_out, False, weight_dtype=torch.float16)
        layer = linear(weight)
        module.pack(layer, scales.clone(), zeros.clone(), groups.to(torch.int32))  # float weights, F16 scales below
        if self.v2:
            qweight = module.qweight
            module.pack(layer, scales.clone(), zeros + 1, groups.to(torch.int32))
            module.qweight = qweight
        return dict(qweight=module.qweight, qzeros=module.qzeros, scales=module.scales.half(),
                    g_idx=groups.to(torch.int32))

    def unpack(self, parts, dtype):
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "x.safetensors"
            save_file({f"x.{k}": v for k, v in parts.items()}, path)
            weight = self.lib.convert_gptq_file(path, dtype, self.config(), "cpu")["x.weight"]
        if not self.v2:
            self.check_with_autogptq(parts, weight.float() if dtype == torch.float16 else None)
        return weight

    def check_with_autogptq(self, parts, weight):
        if weight is None:
            return
        n_in, n_out = len(parts["g_idx"]), parts["scales"].shape[1]
        module = self.lib.QuantLinear(self.bits, self.group_size, n_in, n_out, False, weight_dtype=torch.float16)
        module.load_state_dict(parts)
        assert torch.equal(module(torch.eye(n_in).half()).t().float(), weight), "AutoGPTQ reads other numbers"


class Awq:
    def __init__(self, lib, group_size=32):
        self.lib, self.group_size = lib, group_size

    def config(self):
        return dict(quant_method="awq", bits=4, group_size=self.group_size, zero_point=True, version="gemm")

    def pack(self, weight):
        n_in = weight.shape[1]
        group_size = n_in if self.group_size == -1 else self.group_size
        scales, zeros, weight = fit(weight, 4, in_order(n_in, group_size), False, torch.float16, 0)
        module = self.lib.WQLinear.from_linear(linear(weight), 4, group_size, scales=scales.t().contiguous(),
                                               zeros=zeros.t().contiguous())
        return dict(qweight=module.qweight, qzeros=module.qzeros, scales=module.scales)

    def unpack(self, parts, dtype):
        n_in = parts["qweight"].shape[0]
        return self.lib.dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"].to(dtype), 4,
                                        n_in if self.group_size == -1 else self.group_size).t().contiguous()


class CompressedTensors:
    def __init__(self, bits=4, group_size=32, sym=True, actorder=None, dtype=torch.float16, format="pack-quantized",
                 strategy=None):
        from compressed_tensors.compressors import IntQuantizationCompressor, PackedQuantizationCompressor
        from compressed_tensors.quantization import QuantizationArgs

        strategy = strategy or ("channel" if group_size == -1 else "group")
        self.args = QuantizationArgs(num_bits=bits, type="int", symmetric=sym, strategy=strategy, actorder=actorder,
                                     group_size=group_size if strategy == "group" else None)
        self.packed, self.format, self.dtype, self.actorder = format == "pack-quantized", format, dtype, actorder
        self.compressor = (PackedQuantizationCompressor if self.packed else IntQuantizationCompressor)()

    def config(self):
        weights = json.loads(self.args.model_dump_json())
        return dict(quant_method="compressed-tensors", format=self.format, quantization_status="compressed",
                    ignore=["lm_head"],
                    config_groups=dict(group_0=dict(targets=["Linear"], weights=weights, input_activations=None)))

    def pack(self, weight):
        n_in, bits = weight.shape[1], self.args.num_bits
        groups = (shuffled if self.actorder else in_order)(n_in, self.args.group_size or -1)
        if self.args.strategy == "tensor":
            scale, zero, weight = fit(weight.reshape(1, -1), bits, torch.zeros(weight.numel(), dtype=int),
                                      self.args.symmetric, self.dtype, 0)
            scale, zero, weight = scale.reshape(1), zero.reshape(1), weight.reshape(-1, n_in)
        else:
            scale, zero, weight = fit(weight, bits, groups, self.args.symmetric, self.dtype, 0)
        zero = (zero - 2 ** (bits - 1)).to(torch.int8)
        g_idx = groups.to(torch.int32) if self.actorder else None
        parts = self.compressor.compress_weight(weight=weight, scale=scale, zero_point=zero, g_idx=g_idx,
                                                quantization_args=self.args)
        parts["weight_scale"] = scale.to(self.dtype)
        if not self.args.symmetric and "weight_zero_point" not in parts:
            parts["weight_zero_point"] = zero
        if g_idx is not None:
            parts["weight_g_idx"] = g_idx
        return {k: v.contiguous() for k, v in parts.items()}

    def unpack(self, parts, dtype):
        parts = parts | dict(weight_scale=parts["weight_scale"].to(dtype))
        return self.compressor.decompress_weight(parts, self.args)


def matrices(lib):
    yield "gptq_4bit_sym", Gptq(lib)
    yield "gptq_4bit_asym_row", Gptq(lib, sym=False, group_size=-1)
    yield "gptq_4bit_ragged", Gptq(lib, group_size=64)
    yield "gptq_4bit_desc_act", Gptq(lib, sym=False, desc_act=True)
    yield "gptq_2bit_asym", Gptq(lib, bits=2, sym=False)
    yield "gptq_3bit_sym", Gptq(lib, bits=3)
    yield "gptq_3bit_asym", Gptq(lib, bits=3, sym=False)
    yield "gptq_8bit_sym", Gptq(lib, bits=8)
    yield "gptq_8bit_asym", Gptq(lib, bits=8, sym=False)
    yield "gptq_v2_4bit_sym", Gptq(lib, v2=True)
    yield "gptq_v2_4bit_asym", Gptq(lib, sym=False, v2=True)
    yield "gptq_v2_3bit_asym", Gptq(lib, bits=3, sym=False, v2=True)
    yield "gptq_v2_4bit_positive", Gptq(lib, sym=False, v2=True)
    yield "awq", Awq(lib)
    yield "awq_row", Awq(lib, group_size=-1)
    yield "ct_4bit_sym", CompressedTensors()
    yield "ct_4bit_sym_bf16", CompressedTensors(dtype=torch.bfloat16)
    yield "ct_4bit_sym_f32", CompressedTensors(dtype=torch.float32)
    yield "ct_4bit_asym_bf16", CompressedTensors(sym=False, dtype=torch.bfloat16)
    yield "ct_4bit_g_idx", CompressedTensors(actorder="group")
    yield "ct_8bit_sym_row", CompressedTensors(bits=8, group_size=-1)
    yield "ct_8bit_asym", CompressedTensors(bits=8, sym=False)
    yield "ct_int_row", CompressedTensors(bits=8, group_size=-1, format="int-quantized", dtype=torch.bfloat16)
    yield "ct_int_asym_tensor", CompressedTensors(bits=8, sym=False, format="int-quantized", strategy="tensor")
    yield "ct_4bit_asym_tensor", CompressedTensors(sym=False, strategy="tensor")  # its zero is not packed


def make_matrix(name, method, folder):
    weight = torch.randn(N_OUT, N_IN) * 0.05 + 0.01
    parts = method.pack(weight.abs() if name.endswith("positive") else weight)
    folder.mkdir(parents=True)
    save_file({f"{MODULE}.{k}": v for k, v in parts.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(quantization_config=method.config()), indent=1) + "\n")
    scales = parts.get("scales", parts.get("weight_scale"))
    weight = method.unpack(parts, scales.dtype)
    assert weight.shape == (N_OUT, N_IN) and weight.dtype == scales.dtype
    save_file({f"{MODULE}.weight": weight.contiguous()}, folder / "expected.safetensors")
    print(f"{name}: {weight.dtype}")


def models(lib):
    yield "gptq", "llama", Gptq(lib, sym=False)
    yield "awq", "qwen2", Awq(lib)
    yield "compressed_tensors", "qwen3", CompressedTensors(dtype=torch.bfloat16)


def make_model(name, base, method, folder):
    source = ROOT / "tests/golden/models" / base
    dtype = torch.bfloat16 if base == "qwen3" else torch.float16
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype).float()
    tensors, values = {}, {}
    for key, value in sorted(model.state_dict().items()):
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        module = key.removesuffix(".weight")
        if not module.endswith("_proj"):
            tensors[key] = value.to(dtype)
            continue
        # One matrix whose columns are out of order, as desc_act has them.
        act = dict(desc_act=True) if name == "gptq" and module.endswith("1.mlp.down_proj") else {}
        parts = method.pack(value, **act)
        tensors |= {f"{module}.{k}": v for k, v in parts.items()}
        values[key] = method.unpack(parts, torch.float32)
    assert len(values) == 14
    model.load_state_dict({k: v.float() for k, v in tensors.items() if k in model.state_dict()} | values, strict=False)
    for _ in range(1000):  # until ten logits stand clearly apart
        ids = torch.randint(0, 272, (1, 24))
        top = model(ids).logits[0, -1].detach().topk(11)
        if top.values.diff().abs().min() > 0.02:
            break
    folder.mkdir(parents=True)
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"]:
        shutil.copy(source / file, folder)
    save_file(tensors, folder / "model.safetensors", metadata=dict(format="pt"))
    config = json.loads((source / "config.json").read_text()) | dict(quantization_config=method.config())
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    expected = dict(ids=ids[0].tolist(), top10=dict(ids=top.indices[:10].tolist(),
                                                    logits=[round(v, 5) for v in top.values[:10].tolist()]))
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{name}: {len(tensors)} tensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "tests/golden/import")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lib = import_bare(args.sources.resolve())
    shutil.rmtree(args.out, ignore_errors=True)
    torch.manual_seed(1)
    for name, method in matrices(lib):
        make_matrix(name, method, args.out / "matrices" / name)
    for name, base, method in models(lib):
        make_model(name, base, method, args.out / "models" / name)


if __name__ == "__main__":
    main()
