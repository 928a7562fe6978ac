"""The course as a folder: for learners, or for a lecturer who grades with nbgrader."""

from __future__ import annotations

import os
from pathlib import Path

from rcnn import _files
from rcnn.course import sources

CONFIG = '''"""nbgrader's settings for this course; its commands are run in this folder."""

c = get_config()  # noqa: F821 (nbgrader puts it here)

c.CourseDirectory.course_id = "rcnn"
c.ExecutePreprocessor.timeout = 600  # seconds for one cell; the trainings of 11 and 13 need some minutes
c.ClearSolutions.code_stub = {"python": STUB}
'''.replace("STUB", repr("\n".join(sources.STUB)))


def export(folder: str | os.PathLike[str], solutions: bool = False) -> list[Path]:
    """Writes the course into a new or empty folder, and gives the paths of its notebooks in order.

    Without solutions: NN_name.ipynb for each notebook, as learners get it. With them: a course of nbgrader, that is
    source/NN_name/NN_name.ipynb and nbgrader_config.py; `nbgrader generate_assignment NN_name` there makes what is
    handed out. No notebook has outputs.

    Raises OSError where the folder cannot be written or holds something, ImportError without jupytext.
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
