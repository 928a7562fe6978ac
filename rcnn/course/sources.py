"""The notebooks as they are written, and what is made of them.

A source is a Python file in jupytext's percent format. The word after a cell's `# %%` is its id. Code between
`### BEGIN SOLUTION` and `### END SOLUTION` is an exercise's answer, and `points=2` makes a cell a check that is worth
two points. From these come the notebook with its solutions and the learner's, both in the format of nbgrader (whose
markers these are), so that they can be handed out, collected and graded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDERS = (HERE / "src", HERE.parents[1] / "notebooks" / "src")  # of an installed package, and of a checkout
ID = re.compile(r"[a-z]+(-[a-z]+)*")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ("# YOUR CODE HERE", 'raise NotImplementedError("your own code goes in the place of this line")')
NBGRADER_VERSION = 3  # of the metadata


def paths() -> list[Path]:
    """The sources of all notebooks, in the order of the course. Raises FileNotFoundError where there are none."""
    for folder in FOLDERS:
        if found := sorted(folder.glob("[0-9][0-9]_*.py")):
            return found
    raise FileNotFoundError(
        f"no notebooks in {' or '.join(map(str, FOLDERS))}; they come with the package and lie in "
        "notebooks/src of a checkout"
    )


def read(path: Path) -> Any:
    """The notebook of a source (a NotebookNode), solved and not run: ids, and what nbgrader wants to know, in place.

    Raises ValueError for a cell without an id of its own, for a solution that is never closed, and for a notebook that
    does not say how long it may take. Raises ImportError where jupytext is not installed.
    """
    jupytext, nbformat = _libraries()
    notebook = nbformat.from_dict(jupytext.read(path, fmt="py:percent"))
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first version with ids
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.id = _id(cell, path, seen)
        seen.add(cell.id)
        points = cell.metadata.get("points", 0)
        cell.metadata = _grading(cell, points, path)
    seconds = notebook.metadata.get("rcnn", {}).get("seconds")
    if not seconds:
        raise ValueError(f"{path.name} must say in its header how many seconds it may take")
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "rcnn": {"seconds": seconds}}
    return nbformat.from_dict(notebook)


def student(notebook: Any) -> Any:
    """The same notebook for a learner: a copy without solutions and without outputs."""
    _, nbformat = _libraries()
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source = without_solutions(cell.source)
            cell.outputs, cell.execution_count = [], None
    return copy


def as_json(notebook: Any) -> bytes:
    """What stands in the notebook's file."""
    _, nbformat = _libraries()
    return (str(nbformat.writes(notebook)) + "\n").encode()


def without_solutions(code: str) -> str:
    """The code of a cell with each solution replaced by a line to be written and an error until it is.

    Raises ValueError for markers that do not come in pairs.
    """
    lines: list[str] = []
    inside = False
    for line in code.split("\n"):
        marker = line.strip()
        if marker in (BEGIN, END):
            if inside == (marker == BEGIN):
                raise ValueError(f"{marker!r} without its partner")
            inside = not inside
            if inside:
                lines += [line[: len(line) - len(line.lstrip())] + stub for stub in STUB]
        elif not inside:
            lines.append(line)
    if inside:
        raise ValueError(f"{BEGIN!r} without its partner")
    return "\n".join(lines)


def is_exercise(cell: Any) -> bool:
    """True for a cell that holds a solution, or held one."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_check(cell: Any) -> bool:
    """True for a cell that says whether exercises were solved."""
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def _id(cell: Any, path: Path, seen: set[str]) -> str:
    name = str(cell.metadata.get("title", ""))
    if not ID.fullmatch(name) or name in seen:
        raise ValueError(
            f"{path.name}: a cell's id is words in small letters joined by hyphens, and its own; "
            f"{name!r} is not, before {cell.source[:60]!r}"
        )
    return name


def _grading(cell: Any, points: int, path: Path) -> dict[str, Any]:
    """The metadata of a cell: empty, or nbgrader's for an exercise or a check."""
    solution = cell.cell_type == "code" and BEGIN in cell.source
    if solution:
        try:
            without_solutions(cell.source)
        except ValueError as error:
            raise ValueError(f"{path.name}, cell {cell.id}: {error}") from None
    if solution and points:
        raise ValueError(f"{path.name}, cell {cell.id}: an exercise and its check are two cells")
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
        raise ImportError(
            "the course is written in jupytext's format; install it by pip install 'rcnn[notebooks]'"
        ) from None
    return jupytext, nbformat
