"""Sources of the notebooks, and functions that make notebooks from these sources.

A source is a Python file in jupytext's percent format. The word after `# %%` is the id of the cell. Code between
`### BEGIN SOLUTION` and `### END SOLUTION` is the solution of an exercise. `points=2` makes a cell a check that is
worth two points. This module can make two notebooks from each source, one with solutions and one for students. Both
contain the metadata that nbgrader needs to hand out, collect and grade them.

The book leaves out the text between `<!-- notebook only -->` and `<!-- /notebook only -->`, such as a sentence about a
missing kernel. Do not put these marks at the start of a line, where Markdown ends the paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcnn.course import variants

FOLDER = Path(__file__).parent / "src"
ID = re.compile(r"[a-z]+(-[a-z]+)*")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ("# YOUR CODE HERE", 'raise NotImplementedError("Replace this line with your code.")')
NBGRADER_VERSION = 3  # version of nbgrader's metadata format


def paths() -> list[Path]:
    """Return the paths of all sources, in the order of the course.

    Returns
    -------
    list of Path
        Paths of the sources.

    Raises
    ------
    FileNotFoundError
        If there are no sources.
    """
    found = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    if not found:
        raise FileNotFoundError(f"no notebooks found in {FOLDER}; reinstall rcnn")
    return found


def read(path: Path, seed: str | None = None) -> Any:
    """Read a source as a notebook with solutions, cell ids and nbgrader metadata, but without outputs.

    Parameters
    ----------
    path : Path
        Path of the source.
    seed : str, optional
        If given, the exercises that have variants get the variants for this seed. The metadata contain the seed.

    Returns
    -------
    NotebookNode
        The notebook.

    Raises
    ------
    ValueError
        If a cell has no valid and unique id, a solution has only one of its two markers, a cell is both an exercise and
        a check, the header has no time limit, or the seed is invalid.
    ImportError
        If jupytext is not installed.
    """
    jupytext, nbformat = _libraries()
    notebook = nbformat.from_dict(jupytext.read(path, fmt="py:percent"))
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first version of the format with cell ids
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.id = _id(cell, path, seen)
        seen.add(cell.id)
    own: dict[str, Any] = {}
    if seed is not None:
        own["seed"] = variants.check_seed(seed)
        for exercise in variants.exercises():
            if exercise.notebook == path.stem:
                variants.apply(notebook.cells, exercise, variants.chosen(exercise, seed))
    for cell in notebook.cells:
        points = cell.metadata.get("points", 0)
        cell.metadata = _grading(cell, points, path)
        if cell.cell_type == "code" and "course.quiz(" in cell.source:
            cell.metadata["jupyter"] = {"source_hidden": True}  # the source contains the answers
    seconds = notebook.metadata.get("rcnn", {}).get("seconds")
    if not seconds:
        raise ValueError(f"{path.name}: the header must set rcnn.seconds, the time limit of the notebook")
    notebook.metadata = _metadata({"seconds": seconds, **own})
    return nbformat.from_dict(notebook)


def student(notebook: Any) -> Any:
    """Return a copy of a notebook without solutions and outputs.

    As in notebooks that nbgrader releases, Jupyter deletes neither exercises nor checks, and does not edit checks. The
    checks also get the tag "raises-exception": "Run All Cells" then continues after a check that fails.

    Parameters
    ----------
    notebook : NotebookNode
        Notebook with solutions.

    Returns
    -------
    NotebookNode
        Notebook for students.
    """
    _, nbformat = _libraries()
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source = without_solutions(cell.source)
            cell.outputs, cell.execution_count = [], None
            if is_exercise(cell):
                cell.metadata["deletable"] = False
            if is_check(cell):
                cell.metadata.update(tags=["raises-exception"], editable=False, deletable=False)
    return copy


def new_notebook(cells: Sequence[tuple[str, str, str]], own: Mapping[str, Any]) -> Any:
    """Return a new notebook without outputs.

    Parameters
    ----------
    cells : sequence of (str, str, str)
        For each cell, "markdown" or "code", the id, and the text.
    own : mapping of str to Any
        Metadata of the course, such as the seed.

    Returns
    -------
    NotebookNode
        The notebook.
    """
    _, nbformat = _libraries()
    notebook = nbformat.v4.new_notebook(metadata=_metadata(own))
    for kind, name, text in cells:
        new_cell = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        notebook.cells.append(new_cell(text, id=name))
    return notebook


def as_json(notebook: Any) -> bytes:
    """Return a notebook as the content of a file.

    Parameters
    ----------
    notebook : NotebookNode
        Notebook to convert.

    Returns
    -------
    bytes
        JSON, encoded as UTF-8.
    """
    _, nbformat = _libraries()
    return (str(nbformat.writes(notebook)) + "\n").encode()


def without_solutions(code: str) -> str:
    r"""Return the code of a cell with each solution replaced by a placeholder that raises an error.

    Parameters
    ----------
    code : str
        Code of the cell.

    Returns
    -------
    str
        Code without solutions.

    Raises
    ------
    ValueError
        If a solution has only one of its two markers.

    Examples
    --------
    >>> print(without_solutions("def twice(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"))
    def twice(x):
        # YOUR CODE HERE
        raise NotImplementedError("Replace this line with your code.")
    """
    lines: list[str] = []
    inside = False
    for line in code.split("\n"):
        marker = line.strip()
        if marker in (BEGIN, END):
            if inside == (marker == BEGIN):
                raise ValueError(f"{marker!r} has no matching marker")
            inside = not inside
            if inside:
                lines += [line[: len(line) - len(line.lstrip())] + stub for stub in STUB]
        elif not inside:
            lines.append(line)
    if inside:
        raise ValueError(f"{BEGIN!r} has no matching marker")
    return "\n".join(lines)


def is_exercise(cell: Any) -> bool:
    """Return True if a cell is an exercise, with or without its solution.

    Parameters
    ----------
    cell : NotebookNode
        Cell of a notebook.

    Returns
    -------
    bool
        True if the cell is an exercise.
    """
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_check(cell: Any) -> bool:
    """Return True if a cell checks exercises.

    Parameters
    ----------
    cell : NotebookNode
        Cell of a notebook.

    Returns
    -------
    bool
        True if the cell is a check.
    """
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def _metadata(own: Mapping[str, Any]) -> dict[str, Any]:
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"kernelspec": kernel, "language_info": {"name": "python"}, "rcnn": dict(own)}


def _id(cell: Any, path: Path, seen: set[str]) -> str:
    name = str(cell.metadata.get("title", ""))
    if not ID.fullmatch(name) or name in seen:
        raise ValueError(
            f"{path.name}: a cell id must be unique and consist of lower-case words joined by hyphens, "
            f"got {name!r} for the cell that starts with {cell.source[:60]!r}"
        )
    return name


def _grading(cell: Any, points: int, path: Path) -> dict[str, Any]:
    """Return nbgrader's metadata for a cell that is an exercise or a check, and an empty dict for any other cell."""
    solution = cell.cell_type == "code" and BEGIN in cell.source
    if solution:
        try:
            without_solutions(cell.source)
        except ValueError as error:
            raise ValueError(f"{path.name}, cell {cell.id}: {error}") from None
    if solution and points:
        raise ValueError(f"{path.name}, cell {cell.id}: a cell must not be both an exercise and a check")
    if not solution and not points:
        return {}
    grading = {
        "grade": bool(points),
        "grade_id": cell.id,
        "locked": bool(points),
        "schema_version": NBGRADER_VERSION,
        "solution": solution,
        "task": False,
    }
    if points:
        grading["points"] = points
    return {"nbgrader": grading}


def _libraries() -> tuple[Any, Any]:
    try:
        import jupytext
        import nbformat
    except ImportError:
        raise ImportError("the course requires jupytext; run pip install 'rcnn[notebooks]'") from None
    return jupytext, nbformat
