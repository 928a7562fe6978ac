"""Export of the course to a folder, for students or for grading with nbgrader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rcnn import _files
from rcnn.course import contents, sources, variants

CONFIG = '''"""Settings of nbgrader for this course; run nbgrader's commands in this folder."""

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.course_id = "rcnn"
c.ExecutePreprocessor.timeout = 600  # seconds per cell; cells that train a detector take long
c.ClearSolutions.code_stub = {"python": STUB}
'''.replace("STUB", repr("\n".join(sources.STUB)))


def export(
    folder: str | os.PathLike[str],
    solutions: bool = False,
    *,
    solutions_to: str | os.PathLike[str] | None = None,
    seed: str | None = None,
) -> list[Path]:
    """Write the course into a new or empty folder.

    Without solutions, the folder contains a file NN_name.ipynb for each notebook, in the version for students, and the
    file index.ipynb, which lists the notebooks and shows which checks have passed. With solutions, the folder is an
    nbgrader course: it contains the files source/NN_name/NN_name.ipynb and nbgrader_config.py. To make the version for
    students, run `nbgrader generate_assignment NN_name` in this folder. The notebooks contain no outputs.

    Parameters
    ----------
    folder : str or path
        Folder to write to; created if missing.
    solutions : bool, optional
        If True, write the nbgrader course with solutions; if False, write the notebooks for students.
    solutions_to : str or path, optional
        A second folder. If given, `folder` gets the notebooks for students, and this folder gets the nbgrader course
        with solutions. Neither folder may contain the other.
    seed : str, optional
        Seed of the variants, such as the name of a student. Some exercises then differ from the published ones, and
        need other answers. The same seed always gives the same variants.

    Returns
    -------
    list of Path
        Paths of the notebooks in `folder`, in the order of the course, without the index.

    Raises
    ------
    OSError
        If a folder is not empty or cannot be written.
    TypeError, ValueError
        If the seed is invalid, if both `solutions` and `solutions_to` are given, or if one folder contains the other.
    ImportError
        If jupytext is not installed.
    """
    root = Path(folder).expanduser()
    if seed is not None:
        variants.check_seed(seed)
    if solutions_to is None:
        _files.check_free(root)
        return _write_course(root, seed) if solutions else _write_students(root, seed)
    if solutions:
        raise ValueError(
            "solutions and solutions_to must not be given together: solutions_to already has the solutions"
        )
    apart = Path(solutions_to).expanduser()
    _check_apart(root, apart)
    _files.check_free(root)
    _files.check_free(apart)
    _write_course(apart, seed)
    return _write_students(root, seed)


def _check_apart(students: Path, solutions: Path) -> None:
    one, other = students.resolve(), solutions.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ValueError(
            f"the folder of the solutions must be apart from the students' folder, got {solutions} and {students}"
        )


def _write_students(root: Path, seed: str | None) -> list[Path]:
    """Write the notebooks for students and the index, and return the paths of the notebooks."""
    written = []
    for source in sources.paths():
        written.append(root / f"{source.stem}.ipynb")
        _write(written[-1], sources.student(sources.read(source, seed)))
    _write(root / contents.INDEX, contents.index(seed))
    return written


def _write_course(root: Path, seed: str | None) -> list[Path]:
    """Write an nbgrader course with solutions, and return the paths of the notebooks."""
    written = []
    for source in sources.paths():
        written.append(root / "source" / source.stem / f"{source.stem}.ipynb")
        _write(written[-1], sources.read(source, seed))
    _files.write_whole(root / "nbgrader_config.py", CONFIG.encode())
    return written


def _write(path: Path, notebook: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write_whole(path, sources.as_json(notebook))
