"""The notebooks run without an error, and each file holds the results that people see who do not run it."""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MAX_BYTES = 1_000_000
CELL_SECONDS = 120  # so that a cell that hangs is an error; a whole notebook takes far less
SHAPE_LINE = re.compile(r"^(\S+) +(\([\d, ]+\)) +\w*\d\d$", re.MULTILINE)  # name, shape, dtype
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/\w[\w.-]*/|\b[A-Za-z]:\\")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(path, folder):
    """The notebook with fresh outputs, run in `folder` by a process of its own; a cell that fails is an error."""
    shutil.copy(path, folder)
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace",
               f"--ExecutePreprocessor.timeout={CELL_SECONDS}", path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return read(folder / path.name)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """All that a cell printed or that stands for its pictures."""
    return [output.get("text") or output.data["text/plain"] for output in cell.outputs]


def pictures(cell):
    return [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]


def shapes(cell, without):
    """Name and shape of every array that a cell prints, but for names that contain `without`."""
    lines = [line for text in texts(cell) for line in SHAPE_LINE.findall(text)]
    return [(name, shape) for name, shape in lines if without not in name]


def test_the_first_notebook_is_there():
    assert "00_one_image_end_to_end" in [path.stem for path in NOTEBOOKS]


@every_notebook
def test_runs_and_gives_what_is_stored(path, tmp_path):
    stored, fresh = code_cells(read(path)), code_cells(execute(path, tmp_path))
    for old, new in zip(stored, fresh, strict=True):
        # How many detections there are may hang on the last bit of a score; every other shape is the same anywhere.
        assert shapes(new, without="outputs") == shapes(old, without="outputs"), new.id
        assert len(pictures(new)) == len(pictures(old)), new.id


@every_notebook
def test_stored_outputs_are_complete_and_clean(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(pictures(cell) for cell in cells)
    for cell in cells:
        assert {output.output_type for output in cell.outputs} <= {"stream", "execute_result", "display_data"}, cell.id
        assert all(output.name == "stdout" for output in cell.outputs if output.output_type == "stream"), cell.id
        for text in texts(cell):
            assert not ABSOLUTE_PATH.search(text), cell.id
            assert "warning" not in text.lower(), cell.id
        for picture in pictures(cell):
            assert base64.b64decode(picture).startswith(b"\x89PNG\r\n\x1a\n"), cell.id


@every_notebook
def test_file_is_small_and_free_of_chance(path):
    notebook = read(path)
    assert path.stat().st_size <= MAX_BYTES
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id), f"{cell.id}: a cell's id says what the cell is for"
        assert "execution" not in cell.metadata, f"{cell.id} holds the times of a run"


def test_absolute_paths_are_told_from_other_slashes():
    assert ABSOLUTE_PATH.search("saved in /srv/pages/1.png") and ABSOLUTE_PATH.search(r"C:\pages")
    assert not ABSOLUTE_PATH.search("height / width, 3/4, notebooks/00.ipynb, ../pages/1.png, https://arxiv.org/abs/1")
