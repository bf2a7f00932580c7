"""llama.cpp through llama-cpp-python's C functions, as the scripts here need it. Not a command.

Needs: pip install llama-cpp-python==0.3.36 numpy
"""
import ctypes
import math
import os
import sys
import time

import numpy as np

import llama_cpp as c

_messages = []


@c.llama_log_callback
def _log(level, text, _):
    if level in (3, 4):  # GGML_LOG_LEVEL_WARN, _ERROR (ggml.h)
        _messages.append(text.decode(errors="replace").strip())
        del _messages[:-20]


c.llama_log_set(_log, None)
c.llama_backend_init()


class LlamaCppError(RuntimeError):
    def __init__(self, what):
        super().__init__("\n  ".join([what] + _messages[-5:]))
        _messages.clear()


class LlamaModel:
    """A GGUF and one context on it, on the CPU. kv: "f16" (llama.cpp's default) or "f32"."""

    def __init__(self, path, n_ctx=512, n_threads=os.cpu_count(), kv="f32", repack=True, vocab_only=False):
        parameters = c.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.vocab_only = vocab_only
        parameters.use_extra_bufts = repack  # weights repacked for the CPU's kernels
        self.model = c.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self.model:
            raise LlamaCppError(f"llama.cpp can't load {path}")
        self.vocab = c.llama_model_get_vocab(self.model)
        self.n_vocab = c.llama_vocab_n_tokens(self.vocab)
        self.n_ctx, self.ctx, self.adapters = n_ctx, None, []
        if vocab_only:
            return
        parameters = c.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = n_ctx
        parameters.n_ubatch = min(n_ctx, 512)
        parameters.n_threads = parameters.n_threads_batch = n_threads
        parameters.type_k = parameters.type_v = {"f32": c.GGML_TYPE_F32, "f16": c.GGML_TYPE_F16}[kv]
        if kv == "f32":  # flash attention computes in F16 on the CPU
            parameters.flash_attn_type = c.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.swa_full = True
        parameters.no_perf = True
        self.ctx = c.llama_init_from_model(self.model, parameters)
        if not self.ctx:
            raise LlamaCppError(f"llama.cpp can't make a context for {path}")
        self.batch = c.llama_batch_init(n_ctx, 0, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.ctx:
            c.llama_batch_free(self.batch)
            c.llama_free(self.ctx)
        c.llama_model_free(self.model)

    def tokenize(self, text, add_special=True, parse_special=False):
        data = text.encode()
        ids = (c.llama_token * (len(data) + 16))()
        n = c.llama_tokenize(self.vocab, data, len(data), ids, len(ids), add_special, parse_special)
        if n < 0:
            raise LlamaCppError("llama_tokenize failed")
        return np.ctypeslib.as_array(ids)[:n].astype(np.int32)

    def clear(self):
        c.llama_memory_clear(c.llama_get_memory(self.ctx), True)

    def decode(self, ids, position=0, first_output=0):
        """Evaluates ids at positions position... and returns the logits of ids[first_output:], not copied."""
        batch = self.batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = int(token)
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i >= first_output
        if c.llama_decode(self.ctx, batch) != 0:
            raise LlamaCppError("llama_decode failed")
        n = len(ids) - first_output
        return np.ctypeslib.as_array(c.llama_get_logits(self.ctx), shape=(n, self.n_vocab)) if n > 0 else None

    def logits(self, ids):
        """Float32 [len(ids), n_vocab] of a fresh sequence."""
        self.clear()
        return self.decode(ids).copy()

    def add_adapter(self, path, scale=1.0):
        adapter = c.llama_adapter_lora_init(self.model, os.fsencode(path))
        if not adapter:
            raise LlamaCppError(f"llama.cpp can't load the adapter {path}")
        self.adapters.append((adapter, scale))
        n = len(self.adapters)
        pointers = (c.llama_adapter_lora_p_ctypes * n)(*(ctypes.cast(a, c.llama_adapter_lora_p_ctypes)
                                                         for a, _ in self.adapters))
        scales = (ctypes.c_float * n)(*(s for _, s in self.adapters))
        if c.llama_set_adapters_lora(self.ctx, pointers, n, scales) != 0:
            raise LlamaCppError(f"llama.cpp can't apply the adapter {path}")

    def perplexity(self, text, n_chunks=None, progress=False):
        """As tools/perplexity/perplexity.cpp does by default: the text's tokens cut into windows of n_ctx, each
        evaluated alone with its first token replaced by BOS where the vocabulary asks for BOS; scored are the tokens
        n_ctx/2 + 1 ... n_ctx - 1 of each. Returns (perplexity, its standard error, number of scored tokens)."""
        tokens = self.tokenize(text)
        n, first = self.n_ctx, self.n_ctx // 2
        if len(tokens) < 2 * n:
            raise LlamaCppError(f"the text has {len(tokens)} tokens: perplexity needs at least {2 * n}")
        n_chunks = min(n_chunks or len(tokens), len(tokens) // n)
        nll = np.empty((n_chunks, n - first - 1))
        start = time.time()
        for i in range(n_chunks):
            window = tokens[i * n:(i + 1) * n].copy()
            if c.llama_vocab_get_add_bos(self.vocab):
                window[0] = c.llama_vocab_bos(self.vocab)
            self.clear()
            logits = self.decode(window, first_output=first)[:-1]
            peak = logits.max(axis=1, keepdims=True)
            total = np.exp(logits - peak).sum(axis=1, dtype=np.float64)
            targets = tokens[i * n + first + 1:(i + 1) * n]
            nll[i] = np.log(total) + peak[:, 0] - logits[np.arange(len(targets)), targets]
            if progress:
                seconds = (time.time() - start) / (i + 1) * (n_chunks - i - 1)
                print(f"\r{i + 1}/{n_chunks} windows, PPL {math.exp(nll[:i + 1].mean()):.4f}, {seconds:.0f} s left ",
                      end="", file=sys.stderr)
        if progress:
            print(file=sys.stderr)
        mean = nll.mean()
        variance = (nll ** 2).mean() - mean ** 2
        ppl = math.exp(mean)
        return ppl, ppl * math.sqrt(variance / (nll.size - 1)), nll.size


def quantize(source, out, ftype, n_threads=os.cpu_count(), pure=False, requantize=False, imatrix=None):
    """llama_model_quantize. ftype: a name as in "Q4_K_M". imatrix: {tensor's name: mean squares of its columns}."""
    parameters = c.llama_model_quantize_default_params()
    parameters.ftype = getattr(c, "LLAMA_FTYPE_ALL_F32" if ftype == "F32" else f"LLAMA_FTYPE_MOSTLY_{ftype}")
    parameters.nthread, parameters.pure, parameters.allow_requantize = n_threads, pure, requantize
    if imatrix:
        values = {name.encode(): np.ascontiguousarray(v, np.float32) for name, v in imatrix.items()}
        entries = (c.llama_model_imatrix_data * (len(values) + 1))()  # the last one's name is null
        for entry, (name, v) in zip(entries, values.items()):
            entry.name, entry.size = name, v.size
            entry.data = v.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        parameters.imatrix = ctypes.cast(entries, ctypes.POINTER(c.llama_model_imatrix_data))
    if c.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(parameters)) != 0:
        raise LlamaCppError(f"llama_model_quantize failed: {source} to {ftype}")
