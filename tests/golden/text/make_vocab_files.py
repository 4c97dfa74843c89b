"""Makes folders without tokenizer.json, and what transformers' fast classes do with the strings of corpus.json.

    python make_vocab_files.py        # needs `transformers` (made with 5.13.0); writes beside this file

gpt2_files/vocab.json, merges.txt                     the vocabulary of gpt2/, for GPT2TokenizerFast
distilbert_files/vocab.txt, tokenizer_config.json     that of bert_uncased/, for DistilBertTokenizerFast
*_files/digests.bin, first.json                       as make_tokenizers.py, by the classes' own __call__ and decode
vocab_files.json    folders on top of these two: [{name, base, files, short, all}]; `files` are texts, or null: left out
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
from types import SimpleNamespace

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make_tokenizers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers import AutoTokenizer, BertTokenizerFast, DistilBertTokenizerFast, GPT2TokenizerFast  # noqa: E402
from variants import STRINGS  # noqa: E402

HERE = pathlib.Path(__file__).parent
CLASSES = {"gpt2_files": GPT2TokenizerFast, "distilbert_files": DistilBertTokenizerFast}
CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


def gpt2_changes(vocab, merges):
    n = len(vocab)
    yield "prefix_space", {CONFIG: {"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer"}}
    yield "first_release", {CONFIG: {"model_max_length": 1024}, MAP: {key: "<|endoftext|>" for key in ("bos_token", "eos_token", "unk_token")}}
    yield "added_token_objects", {CONFIG: {
        "add_bos_token": False, "add_prefix_space": False, "bos_token": typed("<|endoftext|>"), "eos_token": typed("<|endoftext|>"),
        "errors": "replace", "pad_token": None, "tokenizer_class": "GPT2Tokenizer", "unk_token": typed("<|endoftext|>")}}
    yield "begins_and_ends", {CONFIG: {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>"}}
    yield "begin_without_token", {CONFIG: {"add_bos_token": True, "bos_token": None, "eos_token": None, "unk_token": None}}
    yield "new_padding", {MAP: {"pad_token": "<pad>"}}
    yield "stripping", {MAP: {"mask_token": token("<mask>", lstrip=True, normalized=False), "sep_token": token("</s>", rstrip=True)},
                        CONFIG: {"mask_token": "[MASK]"}}
    yield "added", {ADDED: {"brandnew": n + 2, "<pad>": n, "New York": n + 1, "naïve": n + 3, "the": vocab["the"]},
                    MAP: {"pad_token": "<pad>", "additional_special_tokens": ["[CLS]", "New York"]}}
    yield "decoder", {CONFIG: {"added_tokens_decoder": {
        str(n + 1): token("New York", rstrip=True, special=False), str(n): token("<pad>", special=True, normalized=False),
        str(n + 2): token("brandnew", single_word=True, special=False)}, "pad_token": "<pad>",
        "extra_special_tokens": ["[SEP]", "<pad>"]}, MAP: {"cls_token": "[CLS]"}, ADDED: {"wrong": 3}}
    yield "same_token_thrice", {CONFIG: {"bos_token": typed("<s>", lstrip=True), "eos_token": typed("<s>", rstrip=True), "unk_token": "<s>",
                                         "additional_special_tokens": [typed("[CLS]", lstrip=True), "[SEP]"]}}
    lines = merges.splitlines(keepends=True)
    yield "other_line_ends", {"merges.txt": "".join(lines[1:]).replace("\n", "\r\n")}
    yield "no_end_of_text", {"vocab.json": {t: i - 1 for t, i in vocab.items() if i > 0}, CONFIG: {"eos_token": "<|im_end|>"}}


def bert_changes(vocab_txt):
    lines = vocab_txt.splitlines()
    n = len(lines)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for lower in (False, True):
        for accents in (None, False, True):
            for chinese in (False, True):
                yield f"{lower}_{accents}_{chinese}", {CONFIG: {
                    "do_lower_case": lower, "strip_accents": accents, "tokenize_chinese_chars": chinese}}
    yield "no_settings", {CONFIG: None}
    yield "saved_by_4", {CONFIG: {
        "added_tokens_decoder": {str(i): {**token(t, normalized=False), "special": True} for i, t in enumerate(names)},
        "clean_up_tokenization_spaces": True, "cls_token": "[CLS]", "do_basic_tokenize": True, "do_lower_case": True,
        "mask_token": "[MASK]", "model_max_length": 512, "never_split": None, "pad_token": "[PAD]", "sep_token": "[SEP]",
        "strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "DistilBertTokenizer", "unk_token": "[UNK]"},
        MAP: {"cls_token": "[ignored]"}}
    yield "saved_by_3", {CONFIG: {"do_lower_case": False, "cls_token": typed("[CLS]"), "mask_token": typed("[MASK]", lstrip=True)},
                         MAP: {"sep_token": "[SEP]"}}
    yield "other_names", {CONFIG: {"cls_token": "[Café]", "sep_token": typed("[Café]"), "pad_token": None}}
    yield "normalized_names", {MAP: {"cls_token": token("[Café]"), "sep_token": token("</S>", normalized=False)}}
    yield "added", {CONFIG: {"do_lower_case": True, "mask_token": typed("[Mask]")},
                    ADDED: {"BrandNew": n, "New York": n + 1, "[Mask]": n + 2, "movie": lines.index("movie")}}
    yield "no_mask", {"vocab.txt": "\n".join(line for line in lines if line != "[MASK]")}
    yield "line_ends", {"vocab.txt": "".join(line + end for line, end in zip(lines, ["\n", "\r\n", " \n", "\t\u00a0\r\n"] * n))}


class Loaded:
    """One of transformers' tokenizers with the calls that make_tokenizers.digest() makes."""

    def __init__(self, kind, folder):
        self.own, self.encode_special_tokens = kind.from_pretrained(folder), False

    def encode(self, text, add_special_tokens=True):
        return SimpleNamespace(ids=self.own(text, add_special_tokens=add_special_tokens,
                                            split_special_tokens=self.encode_special_tokens)["input_ids"])

    def decode(self, ids, skip_special_tokens):
        return self.own.decode(ids, skip_special_tokens=skip_special_tokens)


def as_text(content):
    return content if content is None or isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def vocabularies():
    gpt2, distilbert = HERE / "gpt2_files", HERE / "distilbert_files"
    for folder in (gpt2, distilbert):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    Tokenizer.from_file(str(HERE / "gpt2/tokenizer.json")).model.save(str(gpt2))
    Tokenizer.from_file(str(HERE / "bert_uncased/tokenizer.json")).model.save(str(distilbert))
    (distilbert / CONFIG).write_text('{"do_lower_case": true, "model_max_length": 512}')
    return gpt2, distilbert


def main():
    texts = [unit * repeats + tail for unit, repeats, tail in json.loads((HERE / "corpus.json").read_text())]
    gpt2, distilbert = vocabularies()
    for folder in (gpt2, distilbert):
        make_tokenizers.write_expected(folder, Loaded(CLASSES[folder.name], folder), texts)
    chosen = [index for index, text in enumerate(texts) if len(text) < 200][::5][:STRINGS]
    merges = (gpt2 / "merges.txt").read_text()
    changes = [(gpt2, *item) for item in gpt2_changes(json.loads((gpt2 / "vocab.json").read_text()), merges)]
    changes += [(distilbert, *item) for item in bert_changes((distilbert / "vocab.txt").read_text())]
    out = []
    for base, name, files in changes:
        files = {file: as_text(content) for file, content in files.items()}
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            for path in base.glob("[vmt]*"):
                shutil.copy(path, scratch)
            for file, content in files.items():
                (scratch / file).unlink(missing_ok=True)
                if content is not None:
                    (scratch / file).write_bytes(content.encode())
            tok = Loaded(CLASSES[base.name], scratch)
            (scratch / "config.json").write_text(json.dumps({"model_type": base.name.removesuffix("_files")}))
            same = [tok.own, AutoTokenizer.from_pretrained(scratch)] + [BertTokenizerFast.from_pretrained(scratch)] * (base is distilbert)
            assert len({each.backend_tokenizer.to_str() for each in same}) == 1, name
            digests = [make_tokenizers.digest(tok, texts[index])[0] for index in chosen]
        short = b"".join(eight[:1] + eight[4:5] for eight in digests).hex()
        out.append({"name": name, "base": base.name, "files": files, "short": short,
                    "all": hashlib.sha256(b"".join(digests)).hexdigest()})
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in out)
    (HERE / "vocab_files.json").write_text(
        '{"strings":' + json.dumps(chosen, separators=(",", ":")) + ',\n"variants":[\n' + lines + "]}\n")


if __name__ == "__main__":
    main()
