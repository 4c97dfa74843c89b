"""`scaling RUN...`: what more ranks are worth."""

import argparse
import math

from ..errors import InputError
from ..output import Output
from ..selection import read_measured
from .options import add_out, add_runs, done, numbers, tell

HELP = "strong and weak scaling of a step over ranks and splits of roles, with a fitted model and what it predicts"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--predict", default="8,16,64,256,1024", metavar="P,P,...", help="numbers of ranks to predict")
    parser.add_argument("--fit-up-to", type=int, metavar="RANKS", help="fit the model on runs of at most so many ranks: "
                        "more than the cores share them, which says nothing of ranks that have their own")  # fmt: skip
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import scaling, scaling_model
    from ..scaling_picture import save_pictures

    runs, notes = read_measured(options.runs)
    asked = numbers(options.predict, "--predict")
    measured = [(run, scaling.measure(run)) for run in runs]
    if without := [run.name for run, one in measured if one is None]:
        notes.append(f"Without times, or with fewer than three steps: {', '.join(without)}.")
    points = scaling.together([one for _, one in measured if one is not None])
    if not points:
        raise InputError("none of these runs measured the time of its steps ('time' in metrics.jsonl)")
    series = scaling.series_of(points)
    fitted = [one for one in points if one.roles == scaling_model.EVERYBODY and math.isfinite(one.sequences)]
    if others := sorted({one.reduce for one in fitted} - {scaling.BY_RANK}):
        notes.append(f"Shown, but no part of the model: runs with run.reduce: {', '.join(others)}.")
        fitted = [one for one in fitted if one.reduce == scaling.BY_RANK]
    if options.fit_up_to is not None:
        shared = sorted({one.ranks for one in fitted if one.ranks > options.fit_up_to})
        fitted = [one for one in fitted if one.ranks <= options.fit_up_to]
        if shared:
            notes.append(f"Shown, but no part of the model (--fit-up-to): runs of {', '.join(map(str, shared))} ranks.")
    model = scaling_model.fit([one.step for one in fitted], [one.seconds for one in fitted])
    if not series:
        notes.append("No two numbers of ranks share a step's size, or its size a rank: there is no scaling to draw.")
    if model is None:
        notes.append("No model: it needs three runs or more in which every rank does everything (cluster.roles: all).")
    elif len(others := {str(one.circumstance) for one in fitted}) > 1:
        raise InputError(f"a model is of one method, length and number of threads, and these runs have {len(others)}")
    tell(notes)
    output = Output(options.out)
    tables = {"scaling": scaling.table(points, series), "scaling-roles": scaling.roles_table(points)}
    if model is not None:
        tables["scaling-model"] = scaling_model.residuals(model)
        tables["scaling-prediction"] = scaling_model.prediction(model, asked)
        output.text("scaling.json", scaling_model.to_json(model, fitted[0].circumstance))
    for name, table in tables.items():
        output.table(name, table)
        print(table.to_markdown())
    save_pictures(points, series, model, asked, output)
    return done(output)
