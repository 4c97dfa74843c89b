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
    report.add_argument(
        "--pool", type=Path, help="pool.h5 of the evaluation prompts; default: pool.eval_path of each run"
    )
    report.add_argument("--tokenizer", type=Path, help="tokenizer.json; default: that of each run's last checkpoint")
    report.add_argument("--picture", type=Path, help="also write the KL and win rate picture (.svg, .png, .pdf)")
    report.set_defaults(command=_report)
    return parser


def _report(options: argparse.Namespace) -> int:
    from .report import report  # matplotlib is loaded only where it draws

    out = options.out or options.runs[0] / "report.html"
    report(options.runs, out, options.pool, options.tokenizer, options.picture)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
