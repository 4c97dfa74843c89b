"""`tensorboard RUN...`: event files for TensorBoard."""

import argparse
from contextlib import suppress
from pathlib import Path

from ..selection import read_measured
from .options import add_runs, tell

HELP = "event files for TensorBoard (needs tensorboardX), a folder a run"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--follow", action="store_true", help="append what comes, until all are finished or Ctrl-C")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="LOGDIR", help="for tensorboard --logdir")


def run(options: argparse.Namespace) -> int:
    from ..events import follow, write_events, writer_class

    writer_class()  # an early word where it is not installed
    runs, notes = read_measured(options.runs)
    tell(notes)
    for one in runs:
        print(write_events(one, options.out / one.name), flush=True)
    if options.follow:
        with suppress(KeyboardInterrupt):
            follow({options.out / one.name: one for one in runs})
    return 0
