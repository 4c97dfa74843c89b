"""`temperatures RUN...`: win rate and evaluator by sampling temperature."""

import argparse

from ..output import Output
from ..selection import read_evaluated_and_references
from .options import add_out, add_runs, done, tell

HELP = "win rate and the evaluator's reward by sampling temperature, a line a method, a panel a set of prompts"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import temperatures
    from ..temperature_picture import save_picture

    runs, notes = read_evaluated_and_references(options.runs)
    sets = temperatures.sets_of(runs)
    if all(len(one.temperatures) == 1 for one in sets):
        notes.append("Every evaluation of a set of prompts has one temperature.")
    tell(notes)
    output = Output(options.out)
    output.table("temperatures", temperatures.table(sets))
    save_picture(sets, output)
    return done(output)
