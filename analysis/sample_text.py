"""`samples RUN...`: the texts of samples.py for a terminal."""

import shutil
import textwrap
from pathlib import Path

from .errors import InputError
from .runs import decoders_of
from .samples import Comparison, Sample, compare
from .shown import read_all


def samples(paths: list[Path], pool: Path | None, tokenizer: Path | None, count: int) -> str:
    shown = read_all(paths, pool)
    found = compare(shown, decoders_of([one.run for one in shown], tokenizer), count)
    if not found:
        raise InputError("none of these runs is evaluated; 'vbon eval' does it")
    width = max(40, min(shutil.get_terminal_size().columns, 120))
    return "\n".join(_text(comparison, width) for comparison in found)


def _text(comparison: Comparison, width: int) -> str:
    titles = max(len(sample.title) for sample in comparison.samples)
    lines = [_printable(comparison.prompt) + " …"]
    for sample in comparison.samples:
        begin = f"  {sample.title:<{titles}}  {_scores(sample)}  "
        lines += textwrap.wrap(
            _printable(sample.text) + ("" if sample.finished else " [cut]"),
            width,
            initial_indent=begin,
            subsequent_indent=" " * len(begin),
        )
    return "\n".join(lines) + "\n"


def _scores(sample: Sample) -> str:
    return f"{sample.reward:7.2f}" + ("" if sample.evaluator is None else f" {sample.evaluator:5.2f}")


def _printable(text: str) -> str:
    """One line without anything that would steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
