"""Arguments and endings that several commands share."""

import argparse
import sys
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io import Pool
from ..output import Output

RUNS_HELP = "folder of a run, or of a sweep (all its runs)"
POOL_HELP = "pool.h5 of the evaluation prompts; default: pool.eval_path of each run"
TOKENIZER_HELP = "tokenizer.json; default: that of each run's last checkpoint, or of its reference"


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=RUNS_HELP)


def add_out(parser: argparse.ArgumentParser, required: bool = True) -> None:
    more = "" if required else "; default: the table is only printed"
    parser.add_argument("-o", "--out", type=Path, required=required, metavar="DIR", help=f"folder to write to{more}")


def add_reward(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reward", default="main", metavar="NAME", help="the pool's reward to look at; default: main")


def reward_of(pool: Pool, name: str) -> np.ndarray:
    """float32 [P, M], as it is stored: ties stay ties."""
    if name not in pool.rewards:
        raise InputError(f"'{pool.path}' has no reward '{name}', but: {', '.join(pool.rewards)}")
    return pool.rewards[name]


def numbers(text: str, option: str) -> list[int]:
    """ "5,20" as whole numbers >= 1, ascending, each once."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise InputError(f"{option} {text}: whole numbers from 1 on, divided by commas, are needed")
    return found


def prompt_ids(text: str | None) -> list[int] | None:
    """Of --prompts, each once, in the order given; None: it was not."""
    if text is None:
        return None
    parts = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(part.removeprefix("-").isdecimal() for part in parts):
        raise InputError(f"--prompts {text}: ids of prompts, divided by commas, are needed")
    return [int(part) for part in parts]


def tell(notes: list[str]) -> None:
    """What the reader of the results has to know, beside them."""
    for note in notes:
        print("analysis: note: " + " ".join(note.split()), file=sys.stderr)


def done(output: Output) -> int:
    """Prints what was written."""
    for path in output.written:
        print(path)
    return 0
