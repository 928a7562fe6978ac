"""Export of the course to a folder, for students or for grading with nbgrader."""

from __future__ import annotations

import os
from pathlib import Path

from rcnn import _files
from rcnn.course import sources

CONFIG = '''"""Settings of nbgrader for this course; run nbgrader's commands in this folder."""

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.course_id = "rcnn"
c.ExecutePreprocessor.timeout = 600  # seconds per cell; cells that train a detector take long
c.ClearSolutions.code_stub = {"python": STUB}
'''.replace("STUB", repr("\n".join(sources.STUB)))


def export(folder: str | os.PathLike[str], solutions: bool = False) -> list[Path]:
    """Write the course into a new or empty folder.

    Without solutions, the folder contains a file NN_name.ipynb for each notebook, in the version for students. With
    solutions, the folder is an nbgrader course: it contains the files source/NN_name/NN_name.ipynb and
    nbgrader_config.py. To make the version for students, run `nbgrader generate_assignment NN_name` in this folder. The
    notebooks contain no outputs.

    Parameters
    ----------
    folder : str or path
        Folder to write to; created if missing.
    solutions : bool, optional
        If True, write the nbgrader course with solutions; if False, write the notebooks for students.

    Returns
    -------
    list of Path
        Paths of the notebooks, in the order of the course.

    Raises
    ------
    OSError
        If the folder is not empty or cannot be written.
    ImportError
        If jupytext is not installed.
    """
    root = Path(folder).expanduser()
    _files.check_free(root)
    written = []
    for source in sources.paths():
        notebook = sources.read(source)
        if not solutions:
            notebook = sources.student(notebook)
        target = root / "source" / source.stem if solutions else root
        target.mkdir(parents=True, exist_ok=True)
        written.append(target / f"{source.stem}.ipynb")
        _files.write_whole(written[-1], sources.as_json(notebook))
    if solutions:
        _files.write_whole(root / "nbgrader_config.py", CONFIG.encode())
    return written
