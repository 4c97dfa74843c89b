"""`samples RUN...`: texts of several methods side by side."""

import argparse
from pathlib import Path

from ..errors import InputError
from .options import POOL_HELP, TOKENIZER_HELP, add_runs

HELP = "texts of the reference, the pool's best and the policies, side by side"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("-n", "--count", type=int, default=4, help="prompts to show; default: 4")
    parser.add_argument("--pool", type=Path, help=POOL_HELP)
    parser.add_argument("--tokenizer", type=Path, help=TOKENIZER_HELP)


def run(options: argparse.Namespace) -> int:
    from ..sample_text import samples

    if options.count < 1:
        raise InputError(f"-n {options.count}: at least one prompt can be shown")
    print(samples(options.runs, options.pool, options.tokenizer, options.count))
    return 0
