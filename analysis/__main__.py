"""Command line: `python -m analysis COMMAND ...`. Exit codes: 0 done, 2 an input is wrong, 74 the output failed."""

import argparse
import os
import sys
from importlib import import_module

from .errors import InputError, OutputError

EXIT_INPUT, EXIT_OUTPUT = 2, 74
COMMANDS = (
    "report",
    "pareto",
    "exact",
    "cdf",
    "ks",
    "ablation",
    "calibration",
    "temperatures",
    "curves",
    "timing",
    "scaling",
    "compare",
    "samples",
    "tensorboard",
)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except InputError as fault:
        return _fail(fault, EXIT_INPUT)
    except OutputError as fault:
        return _fail(fault, EXIT_OUTPUT)
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(fault: Exception, code: int) -> int:
    print("analysis: error: " + " ".join(str(fault).split()), file=sys.stderr)
    return code


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Looks at what vbon has written.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = import_module(f".commands.{name}", __package__)
        one = commands.add_parser(name, help=command.HELP, description=_sentence(command.HELP))
        command.arguments(one)
        one.set_defaults(command=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
