"""nbgrader releases and grades every notebook of the exported course: all points when solved, none when untouched."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from rcnn import course
from rcnn.course import sources

pytestmark = pytest.mark.proof


def nbgrader(folder, *arguments):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic by its name
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": programs},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def cells(path):
    return [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]


def test_every_notebook_is_released_and_graded(tmp_path):
    ours, mine = tmp_path / "ours", tmp_path / "mine"
    solved = course.export(ours, solutions=True)
    learners = {path.name: path for path in course.export(mine)}
    for path in solved:
        nbgrader(ours, "generate_assignment", path.stem)
        released = ours / "release" / path.stem / path.name
        assert cells(released) == cells(learners[path.name]), path.stem
        for name, submission in (("ada", path), ("blaise", released)):
            folder = ours / "submitted" / name / path.stem
            folder.mkdir(parents=True)
            shutil.copy(submission, folder)
        nbgrader(ours, "autograde", path.stem)
    nbgrader(ours, "export")
    with open(ours / "grades.csv", newline="") as file:
        grades = {(row["assignment"], row["student_id"]): row for row in csv.DictReader(file)}
    assert set(grades) == {(source.stem, name) for source in sources.paths() for name in ("ada", "blaise")}
    for (assignment, name), row in grades.items():
        assert float(row["max_score"]) > 0, assignment
        assert float(row["score"]) == (float(row["max_score"]) if name == "ada" else 0), assignment
