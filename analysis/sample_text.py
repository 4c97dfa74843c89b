"""`samples RUN...`: the texts of samples.py for a terminal, as Markdown and as CSV."""

import shutil
import textwrap

from .samples import Comparison, Sample
from .tabular import Column, Table, escape_markdown

FORMATS = ("text", "md", "csv")
CUT = " [cut]"


def write(found: list[Comparison], kind: str) -> str:
    """`kind`: one of FORMATS."""
    if kind == "md":
        return "\n".join(_markdown(one) for one in found)
    if kind == "csv":
        return _table(found).to_csv()
    width = max(40, min(shutil.get_terminal_size().columns, 120))
    return "\n".join(_text(comparison, width) for comparison in found)


def _table(found: list[Comparison]) -> Table:
    columns = [Column(name, name, None) for name in ("prompt_id", "prompt", "method", "run", "text", "finished",
                                                     "reward", "evaluator", "temperature")]  # fmt: skip
    return Table(columns, [[one.prompt_id, one.prompt, sample.title, sample.run, sample.text, sample.finished,
                            sample.reward, sample.evaluator, sample.temperature]
                           for one in found for sample in one.samples])  # fmt: skip


def _markdown(one: Comparison) -> str:
    """The prompt, and its samples below it as in the paper's tables."""
    has_evaluator = any(sample.evaluator is not None for sample in one.samples)
    columns = [Column("method", "method"), Column("text", "text"), Column("reward", "reward", 2),
               *([Column("evaluator", "evaluator", 2)] if has_evaluator else [])]  # fmt: skip
    rows: list[list] = [[sample.title, sample.text + ("" if sample.finished else CUT), sample.reward,
                         *([sample.evaluator] if has_evaluator else [])] for sample in one.samples]  # fmt: skip
    temperatures = " and ".join(f"{t:g}" for t in dict.fromkeys(sample.temperature for sample in one.samples))
    title = f"**Prompt {one.prompt_id}, temperature {temperatures}:**"
    return f"{title} {escape_markdown(one.prompt)} …\n\n{Table(columns, rows).to_markdown()}"


def _text(comparison: Comparison, width: int) -> str:
    titles = max(len(sample.title) for sample in comparison.samples)
    lines = [_printable(comparison.prompt) + " …"]
    for sample in comparison.samples:
        begin = f"  {sample.title:<{titles}}  {_scores(sample)}  "
        lines += textwrap.wrap(
            _printable(sample.text) + ("" if sample.finished else CUT),
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
