"""The command `rcnn course`, which exports the notebooks of the course to a folder."""

from __future__ import annotations

import argparse

from rcnn import course
from rcnn.cli.process import say


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn course` to the commands."""
    parser = commands.add_parser("course", help="export the notebooks of the course")
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="write the notebooks to a folder, for students or with solutions for lecturers",
        description="Write the fifteen notebooks to a folder. The version for students has no solutions, and each "
        "check fails until its exercise is solved. The version for lecturers has solutions, and its folder is an "
        "nbgrader course with the files source/NN_name/NN_name.ipynb and nbgrader_config.py.",
    )
    export.add_argument("folder", metavar="DIR", help="a new or empty folder")
    version = export.add_mutually_exclusive_group()
    version.add_argument("--student", action="store_true", help="write the version for students (the default)")
    version.add_argument("--solution", action="store_true", help="write the version for lecturers")
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the notebooks, and print the next command to run; return 0."""
    written = course.export(options.folder, solutions=options.solution)
    say(f"{len(written)} notebooks in {options.folder}")
    if options.solution:
        say(f"cd {options.folder} && nbgrader generate_assignment {written[0].stem}")
    else:
        say(f"jupyter lab {options.folder}")
    return 0
