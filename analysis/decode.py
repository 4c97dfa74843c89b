"""Token ids to text by a byte-level BPE tokenizer.json (GPT-2, NeoX, Llama 3, SmolLM2): vocabulary, added tokens, and
the table of the 256 characters that stand for bytes. Other tokenizers are refused by name.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import InputError
from .io import parse_json, read_text

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


class Decoder:
    """Special tokens (end of text) are left out; ids without a token become U+FFFD, as broken UTF-8 does."""

    def __init__(self, path: Path) -> None:
        data = parse_json(read_text(path), f"'{path}'")
        model, added = data.get("model"), data.get("added_tokens") or []
        if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or not isinstance(added, list):
            raise InputError(f"'{path}' is no tokenizer.json with a vocabulary (model.vocab)")
        if "ByteLevel" not in decoder_types(data.get("decoder")):
            raise InputError(f"'{path}': only byte-level BPE tokenizers are decoded here (decoder ByteLevel)")
        self._bytes: dict[int, bytes] = {}
        for token, number in model["vocab"].items():
            if type(number) is not int:
                raise InputError(f"'{path}': the id of token {token!r} is no whole number")
            self._bytes[number] = _bytes_of(token)
        for entry in added:
            if not isinstance(entry, dict) or type(entry.get("id")) is not int or type(entry.get("content")) is not str:
                raise InputError(f"'{path}': an added token has no id or content")
            self._bytes[entry["id"]] = b"" if entry.get("special") else _bytes_of(entry["content"])

    def __call__(self, tokens: Iterable[int]) -> str:
        """Text of the tokens; negative ones (after the end) are left out."""
        parts = (self._bytes.get(int(token), UNKNOWN.encode()) for token in tokens if token >= 0)
        return b"".join(parts).decode("utf-8", errors="replace")


def decoder_types(decoder: Any) -> set[str]:
    """Names of the decoder's steps."""
    if not isinstance(decoder, dict):
        return set()
    if decoder.get("type") == "Sequence":
        return {name for step in decoder.get("decoders") or [] for name in decoder_types(step)}
    return {str(decoder.get("type"))}


def _byte_table() -> dict[str, int]:
    """Printable Latin-1 characters stand for themselves, the other 68 bytes for the characters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


_TABLE = _byte_table()


def _bytes_of(token: str) -> bytes:
    """A token with a character that stands for no byte is text as it is."""
    values = [_TABLE.get(character) for character in token]
    return token.encode("utf-8", errors="replace") if None in values else bytes(v for v in values if v is not None)
