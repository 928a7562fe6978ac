"""Contents of the course: the question, the time and the checks of each notebook, and the notebook that lists them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcnn.course import sources, variants

INDEX = "index.ipynb"
HEADING = re.compile(r"# (.+)")
TIME = re.compile(r"\*Time\.\* (.+?)\.?(?:\n\n|$)", re.DOTALL)
QUESTION = re.compile(r"\*\*The question\.\*\* (.+?)(?:\n\n|$)", re.DOTALL)
OPENING = """# The course

Open the notebooks in this order. Each one ends with questions, and with exercises without solutions.{variants}

The table shows which checks have passed. It is computed from the saved outputs of the notebooks: save a notebook, and
run the next cell again."""
VARIANTS = """

Some exercises of this copy are variants for the seed `{seed}`. Answers to other variants do not pass the checks."""


@dataclass(frozen=True)
class Check:
    """A check of one or several exercises.

    Attributes
    ----------
    id : str
        Id of the cell.
    functions : tuple of str
        Names of the functions that learners write for this check; empty if it uses only functions of earlier checks.
    points : int
        Points for passing the check.
    code : str
        Code of the cell.
    """

    id: str
    functions: tuple[str, ...]
    points: int
    code: str

    @property
    def name(self) -> str:  # numpydoc ignore=RT01
        """The names of the functions, or the id without "-check"."""
        return ", ".join(self.functions) or self.id.removesuffix("-check")


@dataclass(frozen=True)
class Contents:
    """Contents of a notebook.

    Attributes
    ----------
    stem : str
        Name of the file without ".ipynb".
    title : str
        Heading of the notebook.
    time : str
        Time that a learner needs.
    question : str
        Question that the notebook answers.
    checks : tuple of Check
        Checks, in order.
    """

    stem: str
    title: str
    time: str
    question: str
    checks: tuple[Check, ...]

    @property
    def points(self) -> int:  # numpydoc ignore=RT01
        """The points of all checks together."""
        return sum(check.points for check in self.checks)


def course_contents(seed: str | None = None) -> tuple[Contents, ...]:
    """Return the contents of all notebooks, in the order of the course.

    Parameters
    ----------
    seed : str, optional
        If given, the checks are those of the variants for this seed.

    Returns
    -------
    tuple of Contents
        The contents.

    Raises
    ------
    ValueError
        If the first cell of a source lacks a heading, a time or a question, or if the seed is invalid.
    ImportError
        If jupytext is not installed.
    """
    varied = {exercise.notebook for exercise in variants.exercises()}
    return tuple(_contents(path, seed if path.stem in varied else None) for path in sources.paths())


@functools.lru_cache(maxsize=1000)
def _contents(path: Path, seed: str | None) -> Contents:
    notebook = sources.read(path, seed)
    opening = str(notebook.cells[0].source)
    found = [pattern.search(opening) for pattern in (HEADING, TIME, QUESTION)]
    title, time, question = (" ".join(match[1].split()) if match else "" for match in found)
    if not (title and time and question):
        raise ValueError(
            f"{path.name}: the first cell must have a heading, a paragraph that begins with '*Time.*', and a "
            "paragraph that begins with '**The question.**'"
        )
    return Contents(path.stem, title, time, question, tuple(_checks(notebook.cells)))


def _checks(cells: Sequence[Any]) -> list[Check]:
    """Return the checks of a notebook. Each one gets the names of the functions written since the previous check."""
    found, names = [], list[str]()
    for cell in cells:
        if sources.is_exercise(cell):
            names += [node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
        elif sources.is_check(cell):
            found.append(Check(cell.id, tuple(names), int(cell.metadata["nbgrader"]["points"]), cell.source))
            names = []
    return found


def index(seed: str | None = None) -> Any:
    """Return a notebook that lists all notebooks of the course and shows which checks have passed.

    Parameters
    ----------
    seed : str, optional
        Seed of the variants of the exercises.

    Returns
    -------
    NotebookNode
        The notebook, without outputs.
    """
    cells = [
        ("markdown", "opening", OPENING.format(variants=VARIANTS.format(seed=seed) if seed is not None else "")),
        ("code", "progress", "from rcnn import course\n\ncourse.progress()"),
        ("markdown", "contents", "\n\n".join(["## Contents", *map(_entry, course_contents(seed))])),
    ]
    return sources.new_notebook(cells, {} if seed is None else {"seed": seed})


def _entry(contents: Contents) -> str:
    """Return the lines of the index about one notebook, in Markdown."""
    functions = ", ".join(f"`{name}`" for check in contents.checks for name in check.functions)
    return (
        f"**[{contents.stem[:2]} {contents.title}]({contents.stem}.ipynb)**  \n{contents.question}  \n"
        f"*Time:* {contents.time}. *Exercises:* {functions}. *Points:* {contents.points}."
    )
