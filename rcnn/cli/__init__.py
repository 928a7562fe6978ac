"""The command `rcnn`. Each subcommand is a module that defines its arguments (`add_parser`) and its action (`run`).

If the user makes a mistake, the command prints a message of one line and exits with status 2. It imports matplotlib
only when it draws a figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import rcnn
from rcnn._ext import backend
from rcnn.cli import check, convert, course, demo, detect, doctor, evaluation, train
from rcnn.cli.shared import INTERRUPTED, fail

COMMANDS = (demo, check, train, evaluation, detect, doctor, convert, course)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 if check or doctor finds a problem, 2 for an error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        return fail(error)
    except KeyboardInterrupt:
        print("rcnn: interrupted", file=sys.stderr)
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Parser that reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; for help, run: {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rcnn", description="Train, evaluate and run Faster R-CNN detectors.")
    parser.add_argument("--version", action="version", version=f"rcnn {rcnn.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    commands.add_parser("info", help="print versions, backend and number of threads").set_defaults(run=_info)
    return parser


def _info(options: argparse.Namespace) -> int:
    del options
    for name, value in backend.info().items():
        print(f"{name:<10} {value}")
    return 0
