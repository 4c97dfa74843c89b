"""`calibration HEAD`: how well the amortised F holds on unseen prompts."""

import argparse
from pathlib import Path

from ..output import Output
from .options import add_out, done

HELP = "the amortised F of vbon amortise on prompts that it has not seen: its transform, and F from few samples"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("head", type=Path, metavar="HEAD", help="folder written by vbon amortise (amortised.path)")
    add_out(parser)


def run(options: argparse.Namespace) -> int:
    from .. import calibration

    one = calibration.read(options.head)
    output = Output(options.out)
    output.table("calibration", calibration.figures(one))
    if one.errors:
        output.table("few-samples", calibration.table(one))
    calibration.save_picture(one, output)
    print(calibration.figures(one).to_markdown())
    if one.errors:
        print(calibration.table(one).to_markdown())
    return done(output)
