"""Components that the families do not use, each put into one of their files: what a user's own file may hold."""

import hashlib
import json

from tokenizers import Tokenizer

STRINGS = 250  # the first short ones


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def token(id, content, **flags):
    values = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"id": id, "content": content, **values, **flags}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def before_bytes(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, BYTES]}}


def changes():
    """name -> (base family, keys of tokenizer.json to replace; a dotted key goes one level down)."""
    out = {}
    for behavior in BEHAVIORS:
        for invert in (False, True):
            suffix = f"{behavior}{'_inverted' if invert else ''}"
            out["split_regex_" + suffix] = ("gpt2", before_bytes(split({"Regex": r"\w+|[^\w\s]+"}, behavior, invert)))
            out["split_string_" + suffix] = ("gpt2", before_bytes(split({"String": " "}, behavior, invert)))
        out["punctuation_" + behavior] = ("gpt2", before_bytes({"type": "Punctuation", "behavior": behavior}))
    out["split_dot"] = ("gpt2", before_bytes(split({"String": "."}, "Isolated")))
    out["split_empty_matches"] = ("gpt2", before_bytes(split({"Regex": "x*"}, "Isolated")))
    out["split_class_not_space"] = ("gpt2", before_bytes(split({"Regex": r"[^\S\n]+|\n"}, "Isolated")))
    out["split_script"] = ("gpt2", before_bytes(split({"Regex": r"\p{Han}+|\p{Hiragana}+|\p{Greek}+"}, "Isolated")))
    out["split_case"] = ("gpt2", before_bytes(split({"Regex": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                                                     r"(?i:'s|'t|'re)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+(?!\S)|\s+"}, "Isolated")))
    out["split_anchors"] = ("gpt2", before_bytes(split({"Regex": r"^\s+|\s+$|.$"}, "Isolated")))
    out["digits_together"] = ("gpt2", before_bytes({"type": "Digits", "individual_digits": False}))
    out["whitespace"] = ("gpt2", before_bytes({"type": "Whitespace"}))
    out["whitespace_split"] = ("gpt2", before_bytes({"type": "WhitespaceSplit"}))
    out["byte_level_then_split"] = ("gpt2", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {**BYTES, "use_regex": True}, split({"String": "Ġ"}, "MergedWithNext")]}})
    out["byte_level_twice"] = ("gpt2", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{**BYTES, "use_regex": True}, BYTES]}})
    out["no_pre_tokenizer"] = ("gpt2", {"pre_tokenizer": None})
    out["nested_sequences"] = ("gpt2", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}]}, BYTES]}})
    for name in ("NFC", "NFD", "Lowercase", "StripAccents"):
        out["normalizer_" + name] = ("gpt2", {"normalizer": {"type": name}})
    out["normalizer_NFKC"] = ("neox", {"normalizer": {"type": "NFKC"}})
    out["normalizer_NFKD"] = ("neox", {"normalizer": {"type": "NFKD"}})
    for left in (False, True):
        for right in (False, True):
            out[f"strip_{left}_{right}"] = ("gpt2", {"normalizer": {"type": "Strip", "strip_left": left, "strip_right": right}})
    out["replace_regex"] = ("gpt2", {"normalizer": {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}})
    out["replace_string"] = ("gpt2", {"normalizer": {"type": "Replace", "pattern": {"String": "the"}, "content": "(a.b)"}})
    out["normalizer_chain"] = ("roberta", {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Prepend", "prepend": "x"}]}})
    for clean in (False, True):
        for chinese in (False, True):
            for accents in (None, False, True):
                for lower in (False, True):
                    name = f"bert_{clean}_{chinese}_{accents}_{lower}"
                    out[name] = ("bert_uncased", {"normalizer": {
                        "type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese,
                        "strip_accents": accents, "lowercase": lower}})
    out["word_piece_prefix"] = ("bert_cased", {"model.continuing_subword_prefix": "", "model.max_input_chars_per_word": 5})
    out["word_piece_no_cleanup"] = ("bert_cased", {"decoder": {"type": "WordPiece", "prefix": "#", "cleanup": False}})
    out["no_decoder"] = ("bert_cased", {"decoder": None})
    out["bpe_decoder"] = ("bert_cased", {"decoder": {"type": "BPEDecoder", "suffix": "e"}})
    out["strip_decoder_start"] = ("bert_cased", {"decoder": {"type": "Strip", "content": "e", "start": 1, "stop": 0}})
    out["strip_decoder_stop"] = ("bert_cased", {"decoder": {"type": "Strip", "content": "e", "start": 0, "stop": 1}})
    out["replace_decoder"] = ("gpt2", {"decoder": {"type": "Replace", "pattern": {"Regex": "[aeiou]+"}, "content": "_"}})
    out["unknown_not_fused"] = ("byte_fallback", {"model.fuse_unk": False, "model.byte_fallback": False})
    out["unknown_fused"] = ("byte_fallback", {"model.byte_fallback": False})
    out["unknown_dropped"] = ("byte_fallback", {"model.byte_fallback": False, "model.unk_token": None})
    out["smollm2_unknown_not_fused"] = ("smollm2", {"model.fuse_unk": False})
    out["merges_not_ignored"] = ("llama3", {"model.ignore_merges": False})
    for name, flags in {"plain": {}, "special": {"special": True}, "single_word": {"single_word": True},
                        "lstrip": {"lstrip": True}, "rstrip": {"rstrip": True}, "both": {"lstrip": True, "rstrip": True},
                        "normalized": {"normalized": True}, "normalized_special": {"normalized": True, "special": True},
                        "all": {"single_word": True, "lstrip": True, "rstrip": True, "normalized": True}}.items():
        contents = ["brandnew", "[Café]", "New York", "movie", "mov", "é", "1", "<|endof"]
        if not {"lstrip", "rstrip"} & set(flags):  # with them the reference fails on tokens of blanks
            contents += ["  ", "\n"]
        out["added_" + name] = ("roberta", {"normalizer": {"type": "Lowercase"}, "added_tokens": contents + [flags]})
    return out


def apply(data, change):
    """`data` with the keys of `change` replaced; added tokens are numbered after those of the model."""
    data = json.loads(json.dumps(data))
    for key, value in change.items():
        if key == "added_tokens":
            *contents, flags = value
            value, next_id = [], len(data["model"]["vocab"])
            for content in contents:
                known = data["model"]["vocab"].get(content)
                value.append(token(next_id if known is None else known, content, **flags))
                next_id += known is None
        head, _, tail = key.partition(".")
        if tail:
            data[head][tail] = value
        else:
            data[key] = value
    return data


def write(folder, texts, digest):
    chosen = [index for index, text in enumerate(texts) if len(text) < 200][::5][:STRINGS]
    out = []
    for name, (base, change) in changes().items():
        data = apply(json.loads((folder / base / "tokenizer.json").read_text()), change)
        if "added_tokens" in change:
            change = {**change, "added_tokens": data["added_tokens"]}
        tok = Tokenizer.from_str(json.dumps(data))
        digests = [digest(tok, texts[index])[0] for index in chosen]
        # Two bytes a string find a difference and its place; all strings together are certain.
        short = b"".join(eight[:1] + eight[4:5] for eight in digests).hex()
        out.append({"name": name, "base": base, "change": change, "short": short,
                    "all": hashlib.sha256(b"".join(digests)).hexdigest()})
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in out)
    (folder / "variants.json").write_text(
        '{"strings":' + json.dumps(chosen, separators=(",", ":")) + ',\n"variants":[\n' + lines + "]}\n")
