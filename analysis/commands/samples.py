"""`samples RUN...`: texts of several methods side by side."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..output import Output
from ..selection import read_evaluated
from .options import POOL_HELP, TOKENIZER_HELP, add_out, add_runs, done, prompt_ids, tell

HELP = "texts of the reference, the pool's best and the policies, side by side, with their rewards"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("-n", "--count", type=int, default=4, help="prompts to show, evenly spread; default: 4")
    parser.add_argument("--prompts", metavar="ID,ID,...", help="ids of the prompts to show")
    parser.add_argument(
        "--kl", type=float, metavar="NATS", help="show of each method the run whose KL is nearest to this; default, "
        "where there are many runs: the median of all"
    )  # fmt: skip
    parser.add_argument(
        "--evaluation", metavar="NAME", help="of the configuration's evaluations: on its prompts, at its temperature; "
        "default: the run's own"
    )  # fmt: skip
    parser.add_argument("--format", choices=("text", "md", "csv"), default="text", help="to print; default: text")
    parser.add_argument("--pool", type=Path, help=POOL_HELP)
    parser.add_argument("--tokenizer", type=Path, help=TOKENIZER_HELP)
    add_out(parser, required=False)


def run(options: argparse.Namespace) -> int:
    from ..points import points_of
    from ..runs import decoders_of
    from ..sample_text import write
    from ..samples import MANY_RUNS, compare, one_a_method, with_evaluation
    from ..shown import show_all
    from ..stats import n_of_kl

    if options.count < 1:
        raise InputError(f"-n {options.count}: at least one prompt can be shown")
    if options.kl is not None and not 0 <= options.kl < float("inf"):
        raise InputError(f"--kl {options.kl:g}: a KL of 0 or more is needed")
    ids = prompt_ids(options.prompts)
    runs, notes = read_evaluated(options.runs)
    if options.evaluation is not None:
        runs = [with_evaluation(run, options.evaluation) for run in runs]
    titles: dict[str, str] = {}
    n = None
    if options.kl is not None or len(runs) > MANY_RUNS:
        points, kl = one_a_method(points_of(runs), options.kl)
        runs, titles = [point.run for point in points], {p.run.name: f"{p.label}, {p.parameter}" for p in points}
        n = float(n_of_kl(kl))
        notes.append(f"Of each method the run whose KL is nearest to {kl:.3g} nats; --kl chooses another.")
    shown = show_all(runs, options.pool)
    for one in shown:
        one.title = titles.get(one.run.name, "").rstrip(", ")
    found = compare(shown, decoders_of(runs, options.tokenizer), options.count, ids, n)
    tell([*notes, *dict.fromkeys(note for one in shown for note in one.run.notes)])
    if options.format == "csv":
        print(write(found, "csv"), end="")
    else:
        print(write(found, options.format))
    if options.out is None:
        return 0
    output = Output(options.out)
    name = "samples" if options.evaluation is None else f"samples-{options.evaluation}"  # several lie in one folder
    for kind in ("md", "csv"):
        output.text(f"{name}.{kind}", write(found, kind))
    return done(output)
