"""`exact RUN...`: how far runs end from what theory says, on a model small enough to list."""

import argparse

from ..output import Output
from ..selection import read_evaluated
from .options import add_out, add_runs, done, tell

HELP = "exact KL of runs to their method's optimum and to best-of-N (eval.exact), and the picture of KL and win rate"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import exact, pareto
    from ..points import points_of, require_one_setting

    runs, notes = read_evaluated(options.runs)
    points = points_of(runs)
    require_one_setting(points)
    tell(notes)
    points = exact.exact_points(points)
    output, table = Output(options.out), exact.table(points)
    output.table("exact", table)
    exact.save_picture(points, pareto.all_shares(points), output)
    print(table.to_markdown())
    return done(output)
