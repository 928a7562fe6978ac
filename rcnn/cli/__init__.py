"""The `rcnn` command. Each of its commands has a module with its arguments (`add_parser`) and its work (`run`).

What a user can do wrong ends in one line and exit status 2. matplotlib is imported only where a figure is drawn.
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
    """Runs the command line and gives its exit status: 0, 1 where check or doctor find trouble, 2 for an error, or 130.

    130 is for Ctrl-C.
    """
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
    """A parser whose errors are one line, as all of this command's are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help says more\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rcnn", description="A Faster R-CNN to read, to take apart and to use.")
    parser.add_argument("--version", action="version", version=f"rcnn {rcnn.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    commands.add_parser("info", help="versions, backend, threads").set_defaults(run=_info)
    return parser


def _info(options: argparse.Namespace) -> int:
    del options
    for name, value in backend.info().items():
        print(f"{name:<10} {value}")
    return 0
