"""Writes bert_characters.json: which code points BERT's components of the reference treat as control character, accent,
punctuation, white space, as ranges; and prints the table kNewer of src/text/bert_characters.cpp.

    python make_bert_characters.py        # needs `tokenizers` (made with 0.22.2)

The printed table covers what Python's own Unicode version knows; that in the source covers Unicode 15.
"""

import json
import pathlib
import unicodedata

from tokenizers import normalizers, pre_tokenizers

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def ranges(codes):
    out = []
    for code in sorted(codes):
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def main():
    def normalizer(**options):
        values = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
        return normalizers.BertNormalizer(**{**values, **options}).normalize_str

    clean, strip = normalizer(clean_text=True), normalizer(strip_accents=True)
    apart = normalizer(handle_chinese_chars=True)
    cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    digits = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str
    removed = {code for code in CODES if clean("a" + chr(code) + "b") == "ab"}
    accents = {code for code in CODES if strip("a" + chr(code)) == "a"}
    parts = {code: len(cut("a" + chr(code) + "b")) for code in CODES}
    punctuation = {code for code in CODES if parts[code] == 3}
    sets = {"removed": removed, "accent": accents, "punctuation": punctuation,
            "white_space": {code for code in CODES if parts[code] == 2},
            "ideograph": {code for code in CODES if apart(chr(code)) != chr(code)},
            "numeric": {code for code in CODES if len(digits("a" + chr(code) + "b")) == 3}}
    path = pathlib.Path(__file__).with_suffix("").parent / "bert_characters.json"
    path.write_text("{" + ",\n".join(f'"{name}":' + json.dumps(ranges(codes), separators=(",", ":"))
                                     for name, codes in sets.items()) + "}\n")

    # Characters that have one of the classes by today's data and not in the reference; ranges may span characters that
    # have none of them in either.
    known = removed | accents | punctuation
    changed = {0x166D, 0x111C9, 0x1734, 0xFFFD}
    skipped = known | changed | {9, 10, 13}
    table = []
    for code in CODES:
        category = unicodedata.category(chr(code))
        if not (category in ("Cc", "Cf", "Co", "Mn") or category[0] == "P") or code in skipped:
            continue
        if table and not any(other in known for other in range(table[-1][1] + 1, code)):
            table[-1][1] = code
        else:
            table.append([code, code])
    print(f"Unicode {unicodedata.unidata_version}")
    print(", ".join(f"Range{{0x{a:X}, 0x{b:X}}}" for a, b in table))


if __name__ == "__main__":
    main()
