"""The command line of `rcnn`: its subcommands and their arguments."""

from __future__ import annotations

import argparse
from typing import NoReturn

import rcnn
from rcnn._ext import backend
from rcnn.cli import check, convert, course, demo, detect, doctor, evaluation, train
from rcnn.cli.process import ERROR, printable, say

COMMANDS = (demo, check, train, evaluation, detect, doctor, convert, course)


class _Parser(argparse.ArgumentParser):
    """Parser that reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(ERROR, printable(f"{self.prog}: {message}; for help, run: {self.prog} --help") + "\n")


def make() -> argparse.ArgumentParser:
    """Return the command-line parser; the parsed options contain `run`, the function of the subcommand."""
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
        say(f"{name:<10} {value}")
    return 0
