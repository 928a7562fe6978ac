"""What `rcnn course` does: the course's notebooks, written into a folder."""

from __future__ import annotations

import argparse

from rcnn import course


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `rcnn course` to the commands."""
    parser = commands.add_parser("course", help="write the course's notebooks into a folder of your own")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    export = actions.add_parser(
        "export",
        help="the notebooks for a learner, or with solutions for a lecturer",
        description="Writes the fifteen notebooks into a folder. For a learner the solutions are left out, and every "
        "check fails until its exercise is solved. For a lecturer they are left in, and the folder is a "
        "course of nbgrader: source/NN_name/NN_name.ipynb and nbgrader_config.py.",
    )
    export.add_argument("folder", metavar="DIR", help="a new or empty folder")
    version = export.add_mutually_exclusive_group()
    version.add_argument("--student", action="store_true", help="without the solutions (the default)")
    version.add_argument("--solution", action="store_true", help="with the solutions, for nbgrader")
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the notebooks, and says what to do with them."""
    written = course.export(options.folder, solutions=options.solution)
    print(f"{len(written)} notebooks in {options.folder}")
    if options.solution:
        print(f"cd {options.folder} && nbgrader generate_assignment {written[0].stem}")
    else:
        print(f"jupyter lab {options.folder}")
    return 0
