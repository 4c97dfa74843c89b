"""`curves RUN...`: learning curves."""

import argparse

from ..output import Output
from ..selection import read_measured
from .options import add_out, add_runs, done, tell

HELP = "learning curves against steps and against episodes, seeds together"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--metric", nargs="+", metavar="NAME", help="of metrics.jsonl; default: the usual ones")
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import learning
    from ..learning_picture import save_pictures

    runs, notes = read_measured(options.runs)
    metrics = learning.chosen_metrics(runs, options.metric)
    tell(notes)
    series, output = learning.series_of(runs), Output(options.out)
    save_pictures(series, metrics, output)
    output.table("curves", learning.table(series, metrics))
    return done(output)
