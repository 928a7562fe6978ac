"""Export of the course as a folder, for students or for grading with nbgrader."""

from __future__ import annotations

import os
from pathlib import Path

from rcnn import _files
from rcnn.course import sources

CONFIG = '''"""Settings of nbgrader for this course; run its commands in this folder."""

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.course_id = "rcnn"
c.ExecutePreprocessor.timeout = 600  # seconds per cell; notebooks 11 and 13 train for some minutes
c.ClearSolutions.code_stub = {"python": STUB}
'''.replace("STUB", repr("\n".join(sources.STUB)))


def export(folder: str | os.PathLike[str], solutions: bool = False) -> list[Path]:
    """Write the course into a new or empty folder.

    Without solutions the folder contains NN_name.ipynb for each notebook, as students get them. With solutions it is an
    nbgrader course: source/NN_name/NN_name.ipynb and nbgrader_config.py. Run `nbgrader generate_assignment NN_name`
    there to make the version for students. No notebook contains outputs.

    Parameters
    ----------
    folder : str or path
        Folder to write to; created if missing.
    solutions : bool, optional
        Write the nbgrader course with solutions.

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
