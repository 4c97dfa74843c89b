"""`compare RUN RUN`: two runs against each other."""

import argparse
from pathlib import Path

from ..output import Output
from ..selection import read_evaluated
from .options import add_out, done, tell

HELP = "two runs: differences of their configurations, learning curves and, paired over prompts, evaluations"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="RUN", help="folder of an evaluated run")
    parser.add_argument(
        "second", type=Path, metavar="RUN", help="another one; differences are this one minus the first"
    )
    add_out(parser, required=False)


def run(options: argparse.Namespace) -> int:
    from .. import differences
    from ..errors import InputError

    runs, notes = read_evaluated([options.first, options.second])
    if len(runs) != 2:
        raise InputError(f"two finished and evaluated runs are needed. {' '.join(notes)}")
    first, second = runs
    differences.require_comparable(first, second)
    assert first.final is not None and second.final is not None
    found = differences.changes(first.final, second.final)
    curves = differences.shared_curves(first, second)
    if not curves:
        notes.append("The two runs have no step in common: no learning curves.")
    tell(notes)
    tables = {"compare-configuration": differences.configuration_table(first, second),
              "compare-evaluation": differences.evaluation_table(first, second, found)}  # fmt: skip
    if curves:
        tables["compare-curves"] = differences.curve_table(first, second, curves)
    print("\n".join(table.to_markdown() for table in tables.values()))
    if options.out is None:
        return 0
    from ..difference_picture import save_picture

    output = Output(options.out)
    for name, table in tables.items():
        output.table(name, table)
    save_picture(first, second, curves, output)
    return done(output)
