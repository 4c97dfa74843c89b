"""Command line: `python -m analysis COMMAND ...`. Exit codes: 0 done, 2 an input is wrong, 74 the output failed."""

import argparse
import sys
from pathlib import Path

from .errors import InputError, OutputError

EXIT_INPUT, EXIT_OUTPUT = 2, 74


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except InputError as fault:
        return _fail(fault, EXIT_INPUT)
    except OutputError as fault:
        return _fail(fault, EXIT_OUTPUT)


def _fail(fault: Exception, code: int) -> int:
    print("analysis: error: " + " ".join(str(fault).split()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Looks at what vbon has written.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="one self-contained HTML page of one or several runs")
    report.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run (run.dir of its configuration)"
    )
    report.add_argument("-o", "--out", type=Path, help="the page; default: report.html in the folder of the first run")
    pool_help = "pool.h5 of the evaluation prompts; default: pool.eval_path of each run"
    tokenizer_help = "tokenizer.json; default: that of each run's last checkpoint"
    report.add_argument("--pool", type=Path, help=pool_help)
    report.add_argument("--tokenizer", type=Path, help=tokenizer_help)
    report.add_argument("--picture", type=Path, help="also write the KL and win rate picture (.svg, .png, .pdf)")
    report.set_defaults(command=_report)
    samples = commands.add_parser("samples", help="texts of the reference, the pool's best and the policy, side by side")
    samples.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of an evaluated run")
    samples.add_argument("-n", "--count", type=int, default=4, help="prompts to show; default: 4")
    samples.add_argument("--pool", type=Path, help=pool_help)
    samples.add_argument("--tokenizer", type=Path, help=tokenizer_help)
    samples.set_defaults(command=_samples)
    return parser


def _report(options: argparse.Namespace) -> int:
    from .report import report  # matplotlib is loaded only where it draws

    out = options.out or options.runs[0] / "report.html"
    report(options.runs, out, options.pool, options.tokenizer, options.picture)
    print(out)
    return 0


def _samples(options: argparse.Namespace) -> int:
    from .sample_text import samples

    if options.count < 1:
        raise InputError(f"-n {options.count}: at least one prompt can be shown")
    print(samples(options.runs, options.pool, options.tokenizer, options.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
