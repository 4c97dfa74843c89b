"""`ablation RUN... --by KEY`: what one key of the configuration changes."""

import argparse

from ..output import Output
from ..selection import read_evaluated
from .options import add_out, add_runs, done, tell

HELP = "win rate, reward, evaluator and KL by the value of one configuration key, over seeds"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--by", required=True, metavar="KEY", help="such as vbon.objective, vbon.estimator or pool.use")
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import ablation
    from ..ablation_picture import save_pictures
    from ..points import points_of, pool_notes, require_one_setting

    runs, notes = read_evaluated(options.runs)
    points = points_of(runs)
    require_one_setting(points)
    cells = ablation.cells_by(points, options.by)
    if options.by == ablation.POOL_USE:
        ablation.add_pool_times(cells)
        if any(cell.seconds is None for cell in cells):
            notes.append("The training pool of some runs was not found (pool.path), or does not say how long it took.")
    tell(notes + pool_notes(points))
    output, table = Output(options.out), ablation.table(cells, options.by)
    output.table(f"ablation-{options.by}", table)
    save_pictures(cells, options.by, output)
    print(table.to_markdown())
    return done(output)
