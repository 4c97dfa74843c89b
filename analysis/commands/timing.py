"""`timing RUN...`: where a step's time goes."""

import argparse

from ..errors import InputError
from ..output import Output
from ..selection import read_measured
from .options import add_out, add_runs, done, tell

HELP = "seconds of a step by phase and role, runs or methods side by side, with the time of the pool"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_out(parser, required=False)


def run(options: argparse.Namespace) -> int:
    from .. import step_times

    runs, notes = read_measured(options.runs)
    groups = step_times.groups_of(runs)
    if not any(group.runs and any(group.runs) for group in groups):
        raise InputError("none of these runs measured the time of its steps ('time' in metrics.jsonl)")
    if without := [group.title for group in groups if group.without]:
        notes.append(
            f"No time of a pool for {', '.join(without)}: pool.path is not found, is another pool, or says none."
        )
    tell(notes)
    table = step_times.table(groups)
    print(table.to_markdown())
    if options.out is None:
        return 0
    output = Output(options.out)
    output.table("timing", table)
    return done(output)
