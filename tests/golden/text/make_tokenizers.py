"""Makes the small tokenizers of these goldens, the strings, and what the reference library does with them.

    python make_tokenizers.py        # needs `tokenizers` (made with 0.22.2); writes beside this file

FAMILY/tokenizer.json   trained here on corpus.training_text()
corpus.json             [[unit, repeats, tail], ...]: the strings are unit * repeats + tail
FAMILY/digests.bin      8 bytes a string: the first 4 of sha256 over ids, the first 4 of sha256 over decoded texts
FAMILY/first.json       for debugging: the ids (special tokens added) of some short strings, by index
variants.json           other components on top of these tokenizers: [{name, base, change, digests}]
"""

import argparse
import hashlib
import json
import pathlib
import struct
import sys
import unicodedata

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import corpus  # noqa: E402
import variants  # noqa: E402

HERE = pathlib.Path(__file__).parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")


def train_bpe(tokenizer, special, size, alphabet=True):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [])
    tokenizer.train_from_iterator(corpus.training_text(), trainer)


def gpt2():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    train_bpe(tok, ["<|endoftext|>"], 1100)
    return tok


def neox():
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel()
    train_bpe(tok, ["<|endoftext|>", "<|padding|>"], 1000)
    tok.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    return tok


def llama3():
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    train_bpe(tok, [], 1100)
    tok.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    bos = "<|begin_of_text|>"
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=bos + " $A", pair=f"{bos} $A {bos}:1 $B:1",
                                      special_tokens=[(bos, tok.token_to_id(bos))])])
    return tok


def smollm2():
    tok = Tokenizer(models.BPE(unk_token="<|endoftext|>", fuse_unk=True, byte_fallback=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " "),
                                     decoders.ByteLevel()])
    # No full alphabet: bytes that the text lacks are unknown, as in the real one.
    train_bpe(tok, ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"], 1000, alphabet=False)
    return tok


def roberta():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tok.decoder = decoders.ByteLevel()
    train_bpe(tok, ["<s>", "<pad>", "</s>", "<unk>"], 900)
    tok.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tok.add_tokens([AddedToken("New York", rstrip=True), AddedToken("brandnew", single_word=True, normalized=True)])
    tok.post_processor = processors.RobertaProcessing(sep=("</s>", tok.token_to_id("</s>")),
                                                      cls=("<s>", tok.token_to_id("<s>")))
    return tok


def byte_fallback():
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    # Trained on words: without a pre-tokenizer a whole line would be one word.
    tok.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+"), "isolated")
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=pieces, limit_alphabet=150, show_progress=False)
    tok.train_from_iterator(corpus.training_text(), trainer)
    # The bytes are ordinary tokens of the model, no added ones.
    data = json.loads(tok.to_str())
    data["pre_tokenizer"] = None
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    tok = Tokenizer.from_str(json.dumps(data))
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                       special_tokens=[("<s>", tok.token_to_id("<s>"))])
    return tok


def bert(lowercase):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=1100, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                                        limit_alphabet=250, show_progress=False)
    tok.train_from_iterator(corpus.training_text(), trainer)
    cls, sep = ("[CLS]", tok.token_to_id("[CLS]")), ("[SEP]", tok.token_to_id("[SEP]"))
    if lowercase:
        tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                                           special_tokens=[cls, sep])
    else:
        tok.post_processor = processors.BertProcessing(sep, cls)
    return tok


FAMILIES = {"gpt2": gpt2, "neox": neox, "llama3": llama3, "smollm2": smollm2, "roberta": roberta,
            "byte_fallback": byte_fallback, "bert_uncased": lambda: bert(True), "bert_cased": lambda: bert(False)}
STRING_MERGES = {"gpt2", "llama3"}  # "a b"; the others [["a", "b"], ...]


def saved(tok, string_merges):
    data = json.loads(tok.to_str())
    if string_merges:
        data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def digest(tok, text):
    """What encode and decode give under all options, in 8 bytes; and the ids with special tokens."""
    tok.encode_special_tokens = False
    ids = tok.encode(text).ids
    plain = tok.encode(text, add_special_tokens=False).ids
    tok.encode_special_tokens = True
    unparsed = tok.encode(text, add_special_tokens=False).ids
    tok.encode_special_tokens = False
    all_ids = ids + [-1] + plain + [-1] + unparsed
    decoded = tok.decode(ids, skip_special_tokens=False) + "\n\0" + tok.decode(ids, skip_special_tokens=True)
    return (hashlib.sha256(struct.pack(f"<{len(all_ids)}i", *all_ids)).digest()[:4]
            + hashlib.sha256(decoded.encode()).digest()[:4]), ids


def without_lengths(path):
    """The tokenizer of a file as the product reads it: no truncation, no padding."""
    tok = Tokenizer.from_str(path.read_text())
    tok.no_truncation()
    tok.no_padding()
    return tok


def write_expected(folder, tok, texts):
    digests, first = bytearray(), {}
    for index, text in enumerate(texts):
        eight, ids = digest(tok, text)
        digests += eight
        if index % 40 == 3 and len(text) < 80:
            first[index] = ids
    (folder / "digests.bin").write_bytes(bytes(digests))
    (folder / "first.json").write_text(json.dumps(first, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--private", type=pathlib.Path, nargs=2, metavar=("TOKENIZER_JSON", "FOLDER"),
                        help="only: copy this file into FOLDER and write what is expected of it there")
    arguments = parser.parse_args()
    nfc = normalizers.NFC()
    items = corpus.strings(lambda text: nfc.normalize_str(text) == unicodedata.normalize("NFC", text))
    texts = [unit * repeats + tail for unit, repeats, tail in items]
    if arguments.private:
        source, folder = arguments.private
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_bytes(source.read_bytes())
        return write_expected(folder, without_lengths(source), texts)
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
    (HERE / "corpus.json").write_text("[" + lines + "]\n")
    for name, make in FAMILIES.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        path = folder / "tokenizer.json"
        path.write_text(saved(make(), name in STRING_MERGES))
        write_expected(folder, Tokenizer.from_file(str(path)), texts)
        print(name, path.stat().st_size)
    variants.write(HERE, texts, digest)


if __name__ == "__main__":
    main()
