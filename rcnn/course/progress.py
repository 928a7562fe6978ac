"""Progress of learners: which checks have passed, read from the saved outputs of their notebooks."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rcnn import _files
from rcnn.course.contents import Check, Contents, course_contents

PASSED, FAILED, NOT_RUN, CHANGED = "passed", "failed", "not run", "changed"
SYMBOLS = {PASSED: "✓", FAILED: "✗", NOT_RUN: "○", CHANGED: "!"}
MOST_BYTES = 50_000_000  # of a notebook
ABOUT_CHANGED = (
    "changed: the code of this check is not the code of the course, so it gives no points. Export the notebook again, "
    "and copy your functions into it."
)
LOOK = 'style="text-align: left"'
LEGEND = ", ".join(f"{symbol} {status}" for status, symbol in SYMBOLS.items() if status != CHANGED)


@dataclass(frozen=True)
class Saved:
    """Progress in a notebook.

    Attributes
    ----------
    contents : Contents
        Contents of the notebook.
    statuses : tuple of str
        Status of each check: "passed", "failed", "not run" or "changed".
    path : Path or None
        Path of the file; None if there is no file.
    problem : str
        Why the notebook could not be read; empty if it was read.
    seed : str
        Seed of the variants; empty if there is none.
    """

    contents: Contents
    statuses: tuple[str, ...]
    path: Path | None = None
    problem: str = ""
    seed: str = ""

    @property
    def points(self) -> int:  # numpydoc ignore=RT01
        """The points of the checks that have passed."""
        checks = zip(self.contents.checks, self.statuses, strict=True)
        return sum(check.points for check, status in checks if status == PASSED)


@dataclass(frozen=True)
class Learner:
    """Progress of a learner.

    Attributes
    ----------
    name : str
        Name of the learner's folder.
    notebooks : tuple of Saved
        Progress in each notebook, in the order of the course.
    """

    name: str
    notebooks: tuple[Saved, ...]

    @property
    def points(self) -> int:  # numpydoc ignore=RT01
        """The points of all checks that have passed."""
        return sum(notebook.points for notebook in self.notebooks)

    @property
    def most(self) -> int:  # numpydoc ignore=RT01
        """The points of all checks."""
        return sum(notebook.contents.points for notebook in self.notebooks)


class Progress:
    """Progress of one or several learners, which a notebook displays as a table.

    Parameters
    ----------
    learners : sequence of Learner
        The learners.
    several : bool
        Whether to show a row for each learner. Otherwise, there is one learner, and each notebook has a row.
    """

    def __init__(self, learners: Sequence[Learner], several: bool) -> None:
        self.learners, self.several = tuple(learners), several

    def __repr__(self) -> str:
        """Return the table as plain text."""
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        justified = str.rjust if self.several else str.ljust
        lines = [
            "  ".join([first.ljust(widths[0]), *map(justified, others, widths[1:])]).rstrip() for first, *others in rows
        ]
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        """Return the table as HTML. The names of the notebooks of one learner are links."""
        heading, *rows = ([_as_html(text) for text in row] for row in self._rows())
        if not self.several:
            for row, saved in zip(rows, self.learners[0].notebooks, strict=False):  # the last row is the total
                row[0] = f'<a href="{quote(saved.path.as_posix())}">{row[0]}</a>' if saved.path else row[0]
        body = "".join(f"<tr>{''.join(f'<td {LOOK}>{cell}</td>' for cell in row)}</tr>" for row in rows)
        columns = "".join(f"<th {LOOK}>{cell}</th>" for cell in heading)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def _rows(self) -> list[list[str]]:
        """Return the texts of the table, the heading first."""
        return self._rows_of_learners() if self.several else self._rows_of_notebooks(self.learners[0])

    def _rows_of_notebooks(self, learner: Learner) -> list[list[str]]:
        rows = [["notebook", "points", "checks"]]
        for saved in learner.notebooks:
            name = f"{saved.contents.stem[:2]} {saved.contents.title}"
            checks = zip(saved.contents.checks, saved.statuses, strict=True)
            shown = saved.problem or "  ".join(f"{SYMBOLS[status]} {check.name}" for check, status in checks)
            rows.append([name, f"{saved.points} of {saved.contents.points}", shown])
        return [*rows, ["total", f"{learner.points} of {learner.most}", LEGEND]]

    def _rows_of_learners(self) -> list[list[str]]:
        rows = [["", "seed", *(saved.contents.stem[:2] for saved in self.learners[0].notebooks), "total"]]
        for learner in self.learners:
            seeds = ", ".join(sorted({saved.seed for saved in learner.notebooks} - {""}))
            points = ["-" if saved.problem else f"{saved.points}{_mark(saved)}" for saved in learner.notebooks]
            rows.append([learner.name, seeds, *points, f"{learner.points} of {learner.most}"])
        return rows if any(row[1] for row in rows[1:]) else [[row[0], *row[2:]] for row in rows]

    def _notes(self) -> list[str]:
        """Return the lines below the table."""
        notebooks = [(learner.name, saved) for learner in self.learners for saved in learner.notebooks]
        symbol = "*" if self.several else SYMBOLS[CHANGED]
        notes = [f"{symbol} {ABOUT_CHANGED}"] if any(CHANGED in saved.statuses for _, saved in notebooks) else []
        if self.several:
            notes += [f"{name}: {saved.problem}" for name, saved in notebooks if saved.path and saved.problem]
        return notes


def progress(folder: str | os.PathLike[str] = ".") -> Progress:
    """Return which checks have passed, read from the saved outputs of the notebooks in a folder.

    A check has passed if its cell was run without an error before the notebook was saved. A check whose code differs
    from the course does not count. Saved outputs are no proof: to grade notebooks, run them, for example with nbgrader.

    Parameters
    ----------
    folder : str or path, optional
        Folder with the notebooks of one learner, as files NN_name.ipynb or NN_name/NN_name.ipynb, or a folder that
        contains such a folder for each learner. The default is the current folder, which is the folder of the notebook
        in Jupyter.

    Returns
    -------
    Progress
        The progress. Jupyter displays it as a table, and `print` prints the table.

    Raises
    ------
    OSError
        If the folder does not exist, cannot be read, or contains no notebooks of the course.
    ImportError
        If jupytext is not installed.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: folder not found")
    stems = [contents.stem for contents in course_contents()]
    if found := _notebooks(root, stems):
        return Progress([_learner(root.resolve().name, found)], several=False)
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    learners = [_learner(path.name, found) for path in folders if (found := _notebooks(path, stems))]
    if not learners:
        raise FileNotFoundError(
            f"{root}: neither this folder nor its folders contain notebooks such as {stems[0]}.ipynb"
        )
    return Progress(learners, several=True)


def _notebooks(folder: Path, stems: Sequence[str]) -> dict[str, Path]:
    """Return the paths of the notebooks of the course in a folder, by their stems."""
    found = {}
    for stem in stems:
        paths = (folder / f"{stem}.ipynb", folder / stem / f"{stem}.ipynb")
        if path := next((path for path in paths if path.is_file()), None):
            found[stem] = path
    return found


def _learner(name: str, paths: Mapping[str, Path]) -> Learner:
    return Learner(name, tuple(_saved(contents, paths.get(contents.stem)) for contents in course_contents()))


def _saved(contents: Contents, path: Path | None) -> Saved:
    """Return the progress in a notebook. A file that is not a notebook is a problem, not an error."""
    unknown = (NOT_RUN,) * len(contents.checks)
    if path is None:
        return Saved(contents, unknown, problem="file not found")
    try:
        notebook = json.loads(_files.read_text(path, MOST_BYTES))
        cells = [cell for cell in notebook["cells"] if isinstance(cell, dict)]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Saved(contents, unknown, path, f"{path.name} is not a readable notebook")
    seed = _inner(notebook, "metadata", "rcnn").get("seed")
    try:
        own = next(c for c in course_contents(seed) if c.stem == contents.stem)
    except (TypeError, ValueError):  # not a seed
        return Saved(contents, unknown, path, f"{path.name} has an invalid seed in its metadata")
    by_id = {str(_inner(cell, "metadata", "nbgrader").get("grade_id")): cell for cell in reversed(cells)}
    return Saved(own, tuple(_status(check, by_id.get(check.id)) for check in own.checks), path, seed=seed or "")


def _status(check: Check, cell: dict[str, Any] | None) -> str:
    """Return the status of a check, given its cell in a saved notebook."""
    if cell is None or _text(cell.get("source")) != check.code.strip():
        return CHANGED
    if not isinstance(cell.get("execution_count"), int):
        return NOT_RUN
    outputs = cell.get("outputs")
    kinds = [_inner({"": output}, "").get("output_type") for output in outputs] if isinstance(outputs, list) else []
    return FAILED if "error" in kinds else PASSED


def _text(source: Any) -> str:
    """Return the text of a cell, which a notebook stores as one string or as a list of lines."""
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str)).strip()


def _inner(values: Any, *keys: str) -> dict[str, Any]:
    """Return the dict that `keys` lead to in nested dicts, or an empty dict if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _as_html(text: str) -> str:
    """Return a text of the table as HTML. Lines do not break after a symbol or in a number of points."""
    kept_together = re.sub(rf"(?<=[{''.join(SYMBOLS.values())}]) (?! )|(?<=\d) (?=of)|(?<=of) (?=\d)", "\u00a0", text)
    return html.escape(kept_together).replace("  ", "&emsp;")


def _mark(saved: Saved) -> str:
    return "*" if CHANGED in saved.statuses else ""
