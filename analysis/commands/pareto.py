"""`pareto RUN...`: win rate and reward against KL, and the methods on the front."""

import argparse

from ..errors import InputError
from ..output import Output
from ..selection import read_evaluated
from .options import add_out, add_runs, done, tell

HELP = "KL against win rate and reward of all runs, the Pareto front and each method's share of it"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_out(parser)
    parser.add_argument("--kl-max", type=float, metavar="NATS", help="draw only so far; default: to the last run")


def run(options: argparse.Namespace) -> int:
    from .. import pareto
    from ..points import points_of, pool_notes, require_one_setting

    if options.kl_max is not None and not 0 < options.kl_max < float("inf"):
        raise InputError(f"--kl-max {options.kl_max:g}: a KL above 0 is needed")
    runs, notes = read_evaluated(options.runs)
    points = points_of(runs)
    require_one_setting(points)
    tell(notes + pool_notes(points))
    output, shares = Output(options.out), pareto.all_shares(points)
    pareto.save_pictures(points, shares, output, options.kl_max)
    output.table("pareto", pareto.run_table(points))
    output.table("pareto-shares", pareto.share_table(points, shares))
    if (bon := pareto.bon_table(points)) is not None:
        output.table("pareto-best-of-n", bon)
    print(pareto.share_table(points, shares).to_markdown())
    return done(output)
