"""nbgrader releases and grades every exported notebook: all points if solved, none if untouched."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from rcnn import course
from rcnn.course import sources, variants

pytestmark = pytest.mark.proof


def nbgrader(folder, *arguments):
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader looks for alembic in PATH
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
    lecturer, student = tmp_path / "lecturer", tmp_path / "student"
    solved = course.export(lecturer, solutions=True)
    unsolved = {path.name: path for path in course.export(student)}
    for path in solved:
        nbgrader(lecturer, "generate_assignment", path.stem)
        released = lecturer / "release" / path.stem / path.name
        assert cells(released) == cells(unsolved[path.name]), path.stem
        for name, submission in (("ada", path), ("blaise", released)):
            folder = lecturer / "submitted" / name / path.stem
            folder.mkdir(parents=True)
            shutil.copy(submission, folder)
        nbgrader(lecturer, "autograde", path.stem)
    nbgrader(lecturer, "export")
    with open(lecturer / "grades.csv", newline="") as file:
        grades = {(row["assignment"], row["student_id"]): row for row in csv.DictReader(file)}
    assert set(grades) == {(source.stem, name) for source in sources.paths() for name in ("ada", "blaise")}
    for (assignment, name), row in grades.items():
        assert float(row["max_score"]) > 0, assignment
        assert float(row["score"]) == (float(row["max_score"]) if name == "ada" else 0), assignment


def test_answers_to_another_variant_get_no_points_for_it(tmp_path):
    """Notebook 01 with the variants of one seed: one answer of the learners is for another seed."""
    lecturer, other, name = tmp_path / "lecturer", tmp_path / "other", "01_boxes_and_iou"
    seed, another = "ada", next(s for s in map(str, range(99)) if chosen(s) != chosen("ada"))
    course.export(tmp_path / "students", solutions_to=lecturer, seed=seed)
    course.export(other, solutions=True, seed=another)
    nbgrader(lecturer, "generate_assignment", name)
    released = lecturer / "release" / name / f"{name}.ipynb"
    assert cells(released) == cells(tmp_path / "students" / f"{name}.ipynb")
    for learner, folder in (("right", lecturer), ("copied", other)):
        submitted = lecturer / "submitted" / learner / name
        submitted.mkdir(parents=True)
        shutil.copy(folder / "source" / name / f"{name}.ipynb", submitted)
    nbgrader(lecturer, "autograde", name)
    nbgrader(lecturer, "export")
    with (lecturer / "grades.csv").open() as file:
        points = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    assert points == {"right": 4, "copied": 3}
    shown = str(course.progress(lecturer / "autograded"))
    assert "  4 of" in shown and "  3 of" in shown


def chosen(seed):
    """Return the variant of `slip` that a seed selects."""
    return variants.chosen(next(each for each in variants.exercises() if each.name == "slip"), seed)
