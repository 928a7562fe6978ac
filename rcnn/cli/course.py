"""The command `rcnn course`, which exports the notebooks of the course and shows the progress of learners."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rcnn import course
from rcnn.cli.process import say
from rcnn.course.contents import INDEX


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `rcnn course` to the commands."""
    parser = commands.add_parser("course", help="export the notebooks of the course, or show the progress of learners")
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    _add_export(actions)
    _add_progress(actions)


def _add_export(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = actions.add_parser(
        "export",
        help="write the notebooks to a folder, for students or with solutions for lecturers",
        description="Write all notebooks to a folder. The version for students has no solutions, and each check fails "
        "until its exercise is solved. Its index.ipynb lists the notebooks and shows which checks have passed. The "
        "version for lecturers has solutions, and its folder is an nbgrader course with the files "
        "source/NN_name/NN_name.ipynb and nbgrader_config.py.",
    )
    export.add_argument("folder", metavar="DIR", help="a new or empty folder")
    version = export.add_mutually_exclusive_group()
    version.add_argument("--student", action="store_true", help="write the version for students (the default)")
    version.add_argument("--solution", action="store_true", help="write the version for lecturers")
    version.add_argument(
        "--solutions-to",
        metavar="DIR2",
        help="write the version for students to DIR, and the version for lecturers to DIR2",
    )
    version.add_argument(
        "--lite",
        action="store_true",
        help="write a web site in which the version for students runs in the browser (JupyterLite); any web server can "
        "serve it",
    )
    export.add_argument(
        "--wheel",
        metavar="WHEEL",
        help="with --lite: a wheel of rcnn for browsers (default: the wheel of this version on the package index)",
    )
    export.add_argument(
        "--seed",
        metavar="SEED",
        help="a text, such as a student's name, which selects variants of some exercises; the same text always selects "
        "the same variants (default: the published exercises)",
    )
    export.set_defaults(run=run_export)


def _add_progress(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    progress = actions.add_parser(
        "progress",
        help="show which checks have passed in saved notebooks",
        description="Show which checks have passed. The saved outputs of the notebooks are read; nothing is run.",
    )
    progress.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        default=".",
        help="the folder of a learner's notebooks, or a folder with such a folder for each learner "
        "(default: the current folder)",
    )
    progress.set_defaults(run=run_progress)


def run_export(options: argparse.Namespace) -> int:
    """Write the notebooks, and print the next command to run; return 0."""
    if options.wheel is not None and not options.lite:
        raise ValueError("--wheel requires --lite")
    if options.lite:
        written = course.export_lite(options.folder, options.wheel, seed=options.seed)
        say(f"{len(written)} notebooks and JupyterLite in {options.folder}")
        say(f"python -m http.server --directory {shlex.quote(options.folder)}")
        return 0
    written = course.export(
        options.folder, solutions=options.solution, solutions_to=options.solutions_to, seed=options.seed
    )
    say(f"{len(written)} notebooks in {options.folder}")
    if options.solutions_to is not None:
        say(f"{len(written)} notebooks with solutions in {options.solutions_to}")
    if options.solution or options.solutions_to is not None:
        folder = shlex.quote(options.folder if options.solution else options.solutions_to)
        say(f"cd {folder} && nbgrader generate_assignment {written[0].stem}")
    else:
        say(f"jupyter lab {shlex.quote(str(Path(options.folder) / INDEX))}")
    return 0


def run_progress(options: argparse.Namespace) -> int:
    """Print the progress of one learner or of several learners; return 0."""
    say(str(course.progress(options.folder)))
    return 0
