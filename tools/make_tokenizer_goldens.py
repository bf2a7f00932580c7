#!/usr/bin/env python3
"""Writes tests/golden/tokenizers/: ids by programs that we did not write.

llama_cpp.json  by llama.cpp on real vocabularies: the models of tools/fetch_model.py and those of ../shared.
hf.json         by Hugging Face's tokenizers on hf/*.json, small tokenizers with the structure of real ones that are
                trained here (on this repository's texts), and on tests/golden/models/llama/tokenizer.json.

Needs: tools/setup_peers.sh (tokenizers==0.23.3, llama-cpp-python==0.3.36). Then:
  bench/peers/venv/bin/python tools/make_tokenizer_goldens.py
"""
import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / "tests/golden/tokenizers"

# Every text once plain and once inside of a conversation's markers.
TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", " \n \n", "\r\n", "\r\n\r\n x", "a", " a", "a ", "  a  b   c    d",
    "Hello, world!", " Hello", "Hello world\n", "The quick brown fox jumps over 13 lazy dogs.",
    "it's we'LL they'd I'm you'VE 'S 's'S 'tis '", "1234567890 1 12 123 1234 3.14159 1,000,000 ١٢٣ ½ Ⅷ ²",
    "x=1;  y = 22\t3½", "def f(x):\n    return x  # comment\n\n\n    y\n", "{\"a\": [1, 2.5e-3, null], \"b\": \"\\n\"}",
    "https://example.com/a?b=c&d=%20e#f", "ÄÖÜ äöü ß naïve café Ångström", "e\u0301 n\u0303 \u1e9b\u0323 \u212b \u2126",
    "日本語のテキストと漢字。", "안녕하세요 세계! 한국어 문장입니다.", "中文字符，标点。", "Привет, мир! Ёлка", "مرحبا بالعالم", "שלום עולם",
    "नमस्ते दुनिया", "ก็นะ สวัสดีชาวโลก", "Γειά σου Κόσμε", "Việt Nam", "\U0001f600\U0001f680 emoji \u2014 dash\u2026",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1f0\U0001f1f7 \u2764\ufe0f", "\u00a0nbsp\u00a0\u2003em\u3000wide\u2028ls\u200bzw", "\u0085x\u180ey\ufeffz",
    "a\x01b\x7fc", "\U0010ffff\ue000\ufffd", "!!!???...---___***", "====================", "-" * 70, " " * 40, "\n" * 35, "\t" * 9, "a" * 100,
    "ab" * 60, "▁▁ ▁a ▁", "<0x41><0x0A>", "<s>", "</s> <unk><pad>", "a<s>b </s> c", "<|im_start|>user\nHi<|im_end|>\n",
    " <|im_end|>  <|endoftext|>x", "<|im_start|", "<|im_start|><|im_start|>", "<bos>Hi<eos>", "<start_of_turn>user\nHi<end_of_turn>\n",
    "<table><tr><td>1</td></tr></table>", "<h1>T</h1><br>", "[multimodal] <unused7>", "<|begin_of_text|><|eot_id|>", "[PAD151646]", "<tool>x</tool> <tool>",
    "In 1990s, they said: \u201cquotes\u201d \u2018single\u2019 (parens) [brackets] <tags>.", "CamelCase snake_case kebab-case SCREAMING",
    "mixed한글english日本1語2", "\n  indented\n\tTabbed  \n trailing   ", "word" * 30,
]


def by_llama_cpp():
    sys.path.insert(0, str(ROOT / "tools"))
    from llama_cpp_api import LlamaModel

    paths = [ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf", ROOT / "models/gemma-3-270m-Q4_K_M.gguf"]
    paths += [ROOT.parent / f"shared/conformance/tokenizers/ggml-vocab-{name}.gguf"
              for name in ["gpt-2", "llama-bpe", "llama-spm", "qwen2"]]
    out = {}
    for path in paths:
        with LlamaModel(path, vocab_only=True) as model:
            out[path.name] = {mode: [model.tokenize(text, True, mode == "special").tolist() for text in TEXTS]
                              for mode in ["plain", "special"]}
    return {"texts": TEXTS, "models": out}


def corpus():
    for pattern in ["*.md", "tools/*.py", "base/*.cc", "text/*.cc"]:
        for path in sorted(ROOT.glob(pattern)):
            yield path.read_text(encoding="utf-8")
    yield from TEXTS * 3


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]


def bos_template(bos):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, 0)])


def byte_level(pre_tokenizer, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return tokenizer


def split(expression):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    # White space on either side of an added token; one token inside of another; one that ends generation.
    tokenizer.add_tokens([AddedToken("<tool>", lstrip=True, normalized=False),
                          AddedToken("</tool>", rstrip=True, normalized=False),
                          AddedToken("<h", normalized=False), AddedToken("<h1>", normalized=False)])
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def smollm():
    return byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def llama3():
    tokenizer = byte_level(split(LLAMA3), ignore_merges=True)
    data = json.loads(tokenizer.to_str())
    # A whole word that no merge makes: ignore_merges finds it.
    data["model"]["vocab"]["ĠSCREAMING"] = len(data["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos_template("<s>")])
    return tokenizer


def qwen2():
    tokenizer = byte_level(split(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")))
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def byte_fallback(normalizer, pre_tokenizer, strip):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    # Trained as SentencePiece does, word by word, each with its space in front; used without the split.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.train_from_iterator((t for t in corpus()), trainers.BpeTrainer(
        vocab_size=900, limit_alphabet=200, special_tokens=SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False))
    data = json.loads(tokenizer.to_str())
    # Byte tokens are no added tokens in real files.
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.pre_tokenizer = pre_tokenizer
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if strip else []))
    tokenizer.post_processor = bos_template("<s>")
    return tokenizer


def gemma():
    tokenizer = byte_fallback(normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"), False)
    tokenizer.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(2, 6)])
    return tokenizer


def llama2():
    return byte_fallback(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None, True)


def mistral():
    return byte_fallback(None, pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False), True)


def by_tokenizers():
    (OUT / "hf").mkdir(parents=True, exist_ok=True)
    files = {}
    for make in [gpt2, smollm, llama3, qwen2, gemma, llama2, mistral]:
        path = OUT / "hf" / f"{make.__name__}.json"
        # No indent: seven files, each some 25 kB.
        path.write_text(json.dumps(json.loads(make().to_str()), ensure_ascii=False) + "\n", encoding="utf-8")
        files[f"tokenizers/hf/{path.name}"] = path
    files["models/llama/tokenizer.json"] = ROOT / "tests/golden/models/llama/tokenizer.json"
    out = {}
    for name, path in files.items():
        tokenizer = Tokenizer.from_file(str(path))
        out[name] = [{"ids": (ids := tokenizer.encode(text).ids), "decoded": tokenizer.decode(ids)} for text in TEXTS]
    return {"texts": TEXTS, "tokenizers": out}


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("hf.json", by_tokenizers())
    write("llama_cpp.json", by_llama_cpp())
