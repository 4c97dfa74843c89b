"""`scaling RUN...`: what more ranks are worth."""

import argparse
import json

from ..errors import InputError
from ..output import Output
from ..selection import read_measured
from .options import add_out, add_runs, done, numbers, tell

HELP = "strong and weak scaling of a step over ranks and splits of roles, with a fitted model and what it predicts"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("--predict", default="8,16,64,256,1024", metavar="P,P,...", help="numbers of ranks to predict")
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import scaling
    from ..scaling_picture import save_pictures

    runs, notes = read_measured(options.runs)
    asked = numbers(options.predict, "--predict")
    measured = [(run, scaling.measure(run)) for run in runs]
    if without := [run.name for run, one in measured if one is None]:
        notes.append(f"Without times, or with fewer than three steps: {', '.join(without)}.")
    points = scaling.together([one for _, one in measured if one is not None])
    if not points:
        raise InputError("none of these runs measured the time of its steps ('time' in metrics.jsonl)")
    series, model = scaling.series_of(points), scaling.fit(points)
    if not series:
        notes.append("No two numbers of ranks share a step's size, or its size a rank: there is no scaling to draw.")
    if model is None:
        notes.append("No model: it needs three runs or more in which every rank does everything (cluster.roles: all).")
    tell(notes)
    output, table = Output(options.out), scaling.table(points, series)
    output.table("scaling", table)
    print(table.to_markdown())
    if model is not None:
        predicted = scaling.prediction(model, points, asked)
        output.table("scaling-prediction", predicted)
        print(predicted.to_markdown())
        says = {"format": "vbon.scaling", "terms": model.terms, "gradient_bytes": model.gradient_bytes,
                "relative_error": model.relative_error, "ranks": model.ranks}  # fmt: skip
        output.text("scaling.json", json.dumps(says, indent=1) + "\n")
    save_pictures(points, series, model, output)
    return done(output)
