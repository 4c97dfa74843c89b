"""`report RUN...` and `report SWEEP`: one self-contained HTML page."""

import argparse
from pathlib import Path

from .options import POOL_HELP, TOKENIZER_HELP, add_runs

HELP = "one self-contained HTML page of one or several runs, or of a sweep"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("-o", "--out", type=Path, help="the page; default: report.html in the folder of the first run")
    parser.add_argument("--pool", type=Path, help=POOL_HELP)
    parser.add_argument("--tokenizer", type=Path, help=TOKENIZER_HELP)
    parser.add_argument("--picture", type=Path, help="also write the KL and win rate picture (.svg, .png, .pdf)")


def run(options: argparse.Namespace) -> int:
    from ..report import report

    first = options.runs[0]
    out = (
        options.out or (first.parent if first.is_file() else first) / "report.html"
    )  # a sweep may be named by its file
    report(options.runs, out, options.pool, options.tokenizer, options.picture)
    print(out)
    return 0
