"""The notebooks: the stored files match their sources, run in time, and fail only at unsolved exercises."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import build
from rcnn.course import figures as course_figures
from rcnn.course import sources

FOLDER = Path(__file__).parents[2] / "notebooks"
SOURCES = sources.paths()
TRAINING = ("11", "13", "14", "15")  # they train for a minute or more
MOST_CELLS = 42
MOST_COLUMNS = 92  # of code; the web pages are no wider
PNG = re.compile(r'src="data:image/png;base64,([^"]*)"')
SHAPE_LINE = re.compile(r"^(\S+) +(\([\d, ]+\)) +\w*\d\d$", re.MULTILINE)  # name, shape, dtype
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/\w[\w.-]*/|\b[A-Za-z]:\\")
HELPFUL = {"CheckFailed", "AssertionError", "NotImplementedError"}  # errors with an instruction

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
every_run = pytest.mark.parametrize(
    "source",
    [
        pytest.param(source, id=source.stem, marks=[pytest.mark.slow] if source.name.startswith(TRAINING) else [])
        for source in SOURCES
    ],
)


def stored(source):
    notebook = nbformat.read(FOLDER / f"{source.stem}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """Return the printed text of a cell, and the text that stands for its figures."""
    return [output.get("text") or output.data["text/plain"] for output in cell.outputs]


def figures(cell):
    """Return the content of each PNG image in the outputs of a cell, as base64."""
    bundles = [output.get("data", {}) for output in cell.outputs]
    alone = [bundle["image/png"] for bundle in bundles if "image/png" in bundle]
    return alone + [image for bundle in bundles for image in PNG.findall(bundle.get("text/html", ""))]


def shapes(cell, without):
    """Return name and shape of every array that a cell prints, except names that contain `without`."""
    lines = [line for text in texts(cell) for line in SHAPE_LINE.findall(text)]
    return [(name, shape) for name, shape in lines if without not in name]


def test_course_is_complete():
    assert [source.name[:2] for source in SOURCES] == [f"{number:02d}" for number in range(16)]
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {source.stem for source in SOURCES}


# ---------------------------------------------------------------------- stored files


@every_source
def test_stored_file_matches_its_source(source):
    written, read = sources.read(source), stored(source)
    assert read.metadata == written.metadata
    assert [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in read.cells] == [
        (cell.id, cell.cell_type, cell.source, cell.metadata) for cell in written.cells
    ], f"rebuild {source.stem}.ipynb: python notebooks/build.py {source.name[:2]}"


@every_source
def test_stored_outputs_are_complete_and_clean(source):
    cells = code_cells(stored(source))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(figures(cell) for cell in cells)
    for cell in cells:
        assert {output.output_type for output in cell.outputs} <= {"stream", "execute_result", "display_data"}, cell.id
        assert all(output.name == "stdout" for output in cell.outputs if output.output_type == "stream"), cell.id
        for text in texts(cell):
            assert not ABSOLUTE_PATH.search(text), cell.id
            assert "Warning:" not in text, cell.id
        for figure in figures(cell):
            with Image.open(io.BytesIO(base64.b64decode(figure))) as image:
                assert (image.format, image.mode) == ("PNG", "P"), f"{cell.id}: a figure without a palette"


@every_source
def test_every_stored_image_has_alternative_text(source):
    missing = course_figures.images_without_text(stored(source))
    assert not missing, f"use course.show(figure, alt) in the cells {', '.join(dict.fromkeys(missing))}"


@every_source
def test_a_notebook_ends_with_five_questions_whose_source_is_hidden(source):
    (quiz,) = [cell for cell in code_cells(stored(source)) if "course.quiz(" in cell.source]
    assert quiz.id == "quiz" and quiz.metadata.jupyter.source_hidden
    assert quiz.source.count("[x]") == 5


@every_source
def test_stored_file_is_small(source):
    assert (FOLDER / f"{source.stem}.ipynb").stat().st_size <= build.MOST_BYTES


@every_source
def test_notebook_is_short_and_has_a_question_and_an_exercise(source):
    cells = sources.read(source).cells
    assert len(cells) <= MOST_CELLS
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert [line for line in code.split("\n") if len(line) > MOST_COLUMNS] == []
    assert "**The question.**" in cells[0].source
    text = "\n".join(cell.source for cell in cells)
    for part in ("What people get wrong", "A number to check", "arXiv" if source.name[:2] != "14" else ""):
        assert part in text, part
    assert any(map(sources.is_exercise, cells)) and any(map(sources.is_check, cells))


# ---------------------------------------------------------------------- execution


@every_run
def test_notebook_runs_in_time_and_reproduces_the_stored_outputs(source):
    fresh, seconds = build.built(source)
    assert seconds <= fresh.metadata.rcnn.seconds
    for old, new in zip(code_cells(stored(source)), code_cells(fresh), strict=True):
        # The number of detections may depend on the last bit of a score; all other shapes are the same everywhere.
        assert shapes(new, without="outputs") == shapes(old, without="outputs"), new.id
        assert len(figures(new)) == len(figures(old)), new.id


@pytest.mark.slow
@every_source
def test_students_copy_fails_only_in_the_checks_of_exercises(source):
    notebook = sources.student(sources.read(source))
    assert sources.BEGIN not in sources.as_json(notebook).decode()
    build.execute(notebook, allow_errors=True)
    for cell in code_cells(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if sources.is_check(cell):
            assert len(errors) == 1, f"{cell.id} lets an unsolved exercise pass"
            assert errors[0].ename in HELPFUL and len(errors[0].evalue) > 20, f"{cell.id}: {errors[0].evalue}"
        else:
            assert not errors, f"{cell.id} cannot run before the exercises are solved: {errors[0].evalue}"


def test_absolute_paths_are_distinguished_from_other_slashes():
    assert ABSOLUTE_PATH.search("saved in /srv/pages/1.png") and ABSOLUTE_PATH.search(r"C:\pages")
    assert not ABSOLUTE_PATH.search("height / width, 3/4, notebooks/00.ipynb, ../pages/1.png, https://arxiv.org/abs/1")
