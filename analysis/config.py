"""config.yaml as vbon saves it: nested maps with two spaces a level, one flow value a line (null, numbers, truth
values, words, quoted text, lists, maps). Nothing else of YAML is read; a file that a person wrote is refused by line.
"""

import json
import math
import re
from typing import Any

from .errors import InputError

LINE = re.compile(r"( *)([A-Za-z_][\w.-]*|\"(?:[^\"\\]|\\.)*\"):(?: (.*))?")
TOKEN = re.compile(r"\s*(\"(?:[^\"\\]|\\.)*\"|[\[\]{},:]|[^\s\[\]{},:\"]+)")
ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|.)")
WORDS = {"null": None, "true": True, "false": False}
MAX_DEPTH = 32


def parse_config(text: str, where: str) -> dict[str, Any]:
    """The sections and keys as nested dicts; InputError naming `where` and the line."""
    root: dict[str, Any] = {}
    open_maps = [root]
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.rstrip("\r"))
        depth = len(match[1]) // 2 if match else 0
        if match is None or len(match[1]) % 2 or depth >= len(open_maps):
            raise InputError(f"{where}:{number}: not a configuration as vbon saves it")
        del open_maps[depth + 1 :]
        key = _scalar(match[2])
        if match[3] is None:
            open_maps.append(open_maps[depth].setdefault(key, {}))
            if not isinstance(open_maps[-1], dict):
                raise InputError(f"{where}:{number}: the key '{key}' is given twice")
        else:
            open_maps[depth][key] = _flow(match[3], f"{where}:{number}")
    return root


def lookup(config: dict[str, Any], path: str, default: Any = None) -> Any:
    """The value of "section.key"; `default` where it is missing or null."""
    value: Any = config
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return default if value is None else value


def _scalar(token: str) -> Any:
    if token.startswith('"'):
        return json.loads(ESCAPE.sub(lambda found: f"\\u00{found[1]}" if found[1] else found[0], token))
    if token in WORDS:
        return WORDS[token]
    for kind in (int, float):
        try:
            value = kind(token)
        except ValueError:
            continue
        return value if math.isfinite(value) else token
    return token


def _flow(text: str, where: str) -> Any:
    tokens, at = [], 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None:
            raise InputError(f"{where}: not a value as vbon saves it")
        tokens.append(match[1])
        at = match.end()
    try:
        value, rest = _value(tokens, 0)
        if rest != len(tokens):
            raise ValueError("text after the value")
    except (ValueError, IndexError, TypeError) as fault:
        raise InputError(f"{where}: not a value as vbon saves it") from fault
    return value


def _value(tokens: list[str], at: int, depth: int = 0) -> tuple[Any, int]:
    """The value that begins with token `at`, and the token after it."""
    first = tokens[at]
    if first not in ("[", "{"):
        if first in "]},:":
            raise ValueError(first)
        return _scalar(first), at + 1
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deeply")
    close, at = ("]", at + 1) if first == "[" else ("}", at + 1)
    items: list[Any] = []
    while tokens[at] != close:
        item, at = _value(tokens, at, depth + 1)
        if close == "}":
            if tokens[at] != ":":
                raise ValueError(tokens[at])
            value, at = _value(tokens, at + 1, depth + 1)
            item = (item, value)
        items.append(item)
        if tokens[at] == ",":
            at += 1
        elif tokens[at] != close:
            raise ValueError(tokens[at])
    return (items if close == "]" else dict(items)), at + 1
