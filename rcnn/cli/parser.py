"""The command line of `rcnn`: its subcommands and their arguments."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

import rcnn
from rcnn.cli import check, convert, course, demo, detect, doctor, evaluation, export, info, train, view
from rcnn.cli.process import ERROR, NORMAL, QUIET, VERBOSE, printable
from rcnn.train import parallel

COMMANDS = (demo, check, view, train, evaluation, detect, doctor, convert, export, course, info)
COMMAND = "COMMAND"
COMPLETING = "_ARGCOMPLETE"  # a variable that the shell sets when it asks for completions
CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)


class _Parser(argparse.ArgumentParser):
    """Parser that reports a wrong command line in one line, and prints its help if the name of a command is missing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_defaults(run=self._help)
        group = self.add_mutually_exclusive_group()
        for level, names, text in (
            (QUIET, ("-q", "--quiet"), "print only warnings and errors, and show no progress bars"),
            (VERBOSE, ("-v", "--verbose"), "print whole lists in messages, instead of only their first items"),
        ):
            group.add_argument(
                *names, action="store_const", dest="verbosity", const=level, default=argparse.SUPPRESS, help=text
            )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; unlike argparse, let the parser of a subcommand report its unknown arguments first."""
        if args is not None and self._subparsers is None and COMPLETING not in os.environ:
            self._check_options(args)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown and COMPLETING not in os.environ:
            self.error(f"unknown arguments: {' '.join(unknown)}")
        return parsed, unknown

    def _check_options(self, words: Sequence[str]) -> None:
        """Report a misspelt option with the most similar one."""
        for word in takewhile(lambda word: word != "--", words):
            name = word.partition("=")[0]
            if name.startswith("--") and not any(option.startswith(name) for option in self._option_string_actions):
                similar = difflib.get_close_matches(name, self._option_string_actions, n=1)
                self.error(f"unknown option {name}" + (f"; did you mean {similar[0]}?" if similar else ""))

    def _help(self, options: argparse.Namespace) -> int:
        del options
        self.print_help()
        return 0

    def error(self, message: str) -> NoReturn:
        if self.prog == "rcnn train" and parallel.launched()[0] > 0:
            self.exit()  # process 0 prints the same error, and its exit status counts
        text = _suggest(message)
        end = " For" if text.endswith("?") else "; for"
        self.exit(ERROR, printable(f"{self.prog}: {text}{end} help, run: {self.prog} --help") + "\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line; they contain `run`, the function of the subcommand, and `verbosity`.

    If the shell asks for the completions of an unfinished command line, answer with argcomplete and end the process.
    """
    parser = make()
    if COMPLETING in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    return parser.parse_args(arguments)


def make() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = _Parser(
        prog="rcnn",
        description="Train, evaluate and run Faster R-CNN detectors.",
        epilog="For the options of a command, run: rcnn COMMAND --help",
    )
    parser.set_defaults(verbosity=NORMAL)
    parser.add_argument("--version", action="version", version=f"rcnn {rcnn.__version__}")
    commands = parser.add_subparsers(title="commands", metavar=COMMAND)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def _suggest(message: str) -> str:
    """Shorten a message of argparse: for a misspelt command or value, name only the most similar choice."""
    if not (found := CHOICE.search(message)):
        return message
    given, choices = found[1], re.findall(r"[^\s',]+", found[2])
    similar = difflib.get_close_matches(given.lower(), choices, n=1, cutoff=0.4)
    argument = message[: found.start()]
    kind, argument = ("command", "") if argument == f"argument {COMMAND}: " else ("choice", argument)
    if not similar:
        return f"{argument}{given!r} is not a {kind}; choose from {', '.join(choices)}"
    return f"{argument}{given!r} is not a {kind}; did you mean {similar[0]}?"
